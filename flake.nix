{
  description = "Builds an agent binary from a pin, proves what it built, and refuses to run anything else";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        admit = pkgs.rustPlatform.buildRustPackage {
          pname = "admit";
          version = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).package.version;
          src = self;
          cargoLock.lockFile = ./Cargo.lock;
          # The tests need user namespaces and a package registry: neither is inside Nix's own sandbox.
          doCheck = false;
          meta = {
            description = "Builds an agent binary from a pin, proves what it built, and refuses to run anything else";
            license = with pkgs.lib.licenses; [ mit asl20 ];
            mainProgram = "admit";
            platforms = systems;
          };
        };
        default = admit;
      });

      apps = each (pkgs: rec {
        admit = {
          type = "app";
          program = "${self.packages.${pkgs.stdenv.hostPlatform.system}.admit}/bin/admit";
        };
        default = admit;
      });

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [ cargo rustc clippy rustfmt bubblewrap gzip git python3 openssl ];
        };
      });
    };
}
