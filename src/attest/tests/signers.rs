//! Signatures: whose count, how many there must be, and what a changed byte does.

use proptest::prelude::*;

use super::*;

#[test]
fn enough_signatures_by_different_keys_hold() {
    let one = demand([trusted(1), trusted(2)], 1);
    let two = demand([trusted(1), trusted(2)], 2);
    assert_eq!(ask(&[signed(&statement(), &[1])], &one).unwrap(), ["signer-1"]);
    assert_eq!(ask(&[signed(&statement(), &[2, 1])], &two).unwrap().len(), 2);
    // One envelope each is the same as one envelope with both; statements of others do not matter.
    let apart = [signed(&statement(), &[1]), signed(&statement(), &[2])];
    assert_eq!(ask(&apart, &two).unwrap().len(), 2);
    let other = Statement { predicate_type: "urn:x:other".into(), ..statement() };
    let others = [signed(&other, &[9]), signed(&other, &[1]), signed(&statement(), &[9, 1])];
    assert_eq!(ask(&others, &one).unwrap(), ["signer-1"]);
}

#[test]
fn the_hint_at_the_key_decides_nothing() {
    let one = demand([trusted(1)], 1);
    for keyid in ["", "SHA256:x", &public(1).in_toto_keyid(), public(9).fingerprint().as_str()] {
        let mut envelope = signed(&statement(), &[1]);
        envelope.signatures[0].keyid = keyid.into();
        assert_eq!(ask(&[envelope], &one).unwrap(), ["signer-1"], "{keyid}");
    }
    // An unknown key's signature under a trusted key's name is an altered one.
    let mut envelope = signed(&statement(), &[9]);
    envelope.signatures[0].keyid = public(1).in_toto_keyid();
    refused(&[envelope], &one, Reason::SignatureInvalid, 5);
}

#[test]
fn one_key_counts_once() {
    let two = demand([trusted(1), trusted(2)], 2);
    let mut twice = signed(&statement(), &[1, 1]);
    twice.signatures[1].keyid = public(1).in_toto_keyid();
    let no = refused(&[twice.clone()], &two, Reason::SignaturesTooFew, 3);
    assert_eq!(no.found, "1 of 2: signer-1");
    let apart = [twice, signed(&statement(), &[1]), signed(&statement(), &[1, 9])];
    refused(&apart, &two, Reason::SignaturesTooFew, 3);
}

#[test]
fn what_no_trusted_key_signed_is_refused() {
    let one = demand([trusted(1)], 1);
    refused(&[], &one, Reason::SignatureMissing, 3);
    let other = Statement { predicate_type: "urn:x:other".into(), ..statement() };
    refused(&[signed(&other, &[1])], &one, Reason::SignatureMissing, 3);
    let no = refused(&[signed(&statement(), &[9])], &one, Reason::SignerUnknown, 3);
    assert!(no.found.contains(public(9).fingerprint().as_str()), "{no:?}");
    let none = held(None, statement(), &one).unwrap_err();
    assert_eq!(none.reason, Reason::SignatureMissing);
    let bad = held(Some(b"{}"), statement(), &one).unwrap_err();
    assert_eq!(bad.reason, Reason::BadEnvelope);
    // No key is trusted: nothing holds.
    refused(&[signed(&statement(), &[1])], &demand([], 1), Reason::SignerUnknown, 3);
}

#[test]
fn keys_that_do_not_count_now_are_refused() {
    let with = |change: &dyn Fn(&mut Signer)| {
        let mut one = trusted(1);
        change(&mut one.signer);
        demand([one, trusted(2)], 1)
    };
    let bundle = [signed(&statement(), &[1])];
    let time = |text: &str| Some(text.parse().unwrap());
    refused(&bundle, &with(&|s| s.expires = time(NOW)), Reason::KeyExpired, 3);
    refused(&bundle, &with(&|s| s.not_before = time("2026-06-02")), Reason::KeyNotYetValid, 3);
    let revoked = with(&|s| s.revoked = Some("lost".into()));
    assert!(refused(&bundle, &revoked, Reason::KeyRevoked, 3).found.contains("lost"));
    // Another key's signature makes up for it.
    assert_eq!(ask(&[signed(&statement(), &[1, 2])], &revoked).unwrap(), ["signer-2"]);
}

proptest! {
    /// Every byte of what is signed, and of the signature, counts.
    #[test]
    fn a_flipped_byte_is_refused(part in 0..3_usize, at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let one = demand([trusted(1)], 1);
        let mut envelope = signed(&statement(), &[1]);
        let flip = |bytes: &mut [u8]| {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        };
        match part {
            0 => flip(&mut envelope.payload),
            1 => flip(&mut envelope.signatures[0].sig),
            _ => {
                let mut bytes = envelope.payload_type.clone().into_bytes();
                flip(&mut bytes);
                // Flipped to no UTF-8, it is no JSON text and so no envelope.
                let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
                envelope.payload_type = text;
            }
        }
        let no = ask(&[envelope], &one).unwrap_err();
        prop_assert_eq!(no.reason, Reason::SignatureInvalid);
    }

    /// Any byte of a bundle may be changed to any other: it is refused, or nothing that is signed was changed.
    #[test]
    fn a_changed_byte_of_a_bundle_never_changes_what_is_accepted(
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let envelope = signed(&statement(), &[1]);
        let mut line = envelope.line().into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        if held(Some(&line), statement(), &demand([trusted(1)], 1)).is_ok() {
            let read = Envelope::parse(&line).unwrap();
            prop_assert_eq!(read.signed_bytes(), envelope.signed_bytes());
            prop_assert_eq!(&read.signatures[0].sig, &envelope.signatures[0].sig);
        }
    }
}
