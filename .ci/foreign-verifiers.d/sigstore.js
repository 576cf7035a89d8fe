// Node's @sigstore/verify: one question a line (JSON), one answer a line. A question has a Sigstore bundle and the PEM of the
// one key that counts, or a leaf with what shows it in a tree (RFC 9162).
const { createHash, createPublicKey } = require('node:crypto');
const { createInterface } = require('node:readline');
const { bundleFromJSON } = require('@sigstore/bundle');
const { toSignedEntity, toTrustMaterial, Verifier } = require('@sigstore/verify');
const { verifyMerkleInclusion } = require('@sigstore/verify/dist/tlog/merkle.js');

const nobody = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const none = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 };

function bundle({ bundle, pem }) {
  // The hint is how its writer names the key: by the digest of the PEM.
  const hint = createHash('sha256').update(pem).digest('hex');
  const rawBytes = createPublicKey(pem).export({ format: 'der', type: 'spki' });
  const material = toTrustMaterial(nobody, { [hint]: { rawBytes } });
  new Verifier(material, none).verify(toSignedEntity(bundleFromJSON(bundle)));
}

function leaf({ leaf, index, size, root, path }) {
  const bytes = (hex) => Buffer.from(hex, 'hex');
  const entry = { canonicalizedBody: bytes(leaf), inclusionProof: { logIndex: index, hashes: path.map(bytes) } };
  verifyMerkleInclusion(entry, { logSize: BigInt(size), logHash: bytes(root) });
}

console.log(JSON.stringify({ version: require('@sigstore/verify/package.json').version }));
createInterface({ input: process.stdin }).on('line', (line) => {
  const question = JSON.parse(line);
  try {
    (question.bundle ? bundle : leaf)(question);
    console.log(JSON.stringify({ good: true }));
  } catch (err) {
    console.log(JSON.stringify({ good: false, why: String(err) }));
  }
});
