{
  description = "Builds an agent binary from a pin, proves what it built, and refuses to run anything else";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      # Of any package set, so that the overlay and the packages are one definition.
      build = pkgs: pkgs.rustPlatform.buildRustPackage {
        pname = "admit";
        version = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).package.version;
        src = self;
        cargoLock.lockFile = ./Cargo.lock;
        # The tests need user namespaces and a package registry: neither is inside Nix's own sandbox.
        doCheck = false;
        RELEASE_COMMIT = self.rev or "";
        postInstall = ''
          export HOME=$TMPDIR
          for shell in bash zsh fish; do $out/bin/admit completions $shell > admit.$shell; done
          install -D -m 644 admit.bash $out/share/bash-completion/completions/admit
          install -D -m 644 admit.zsh $out/share/zsh/site-functions/_admit
          install -D -m 644 admit.fish $out/share/fish/vendor_completions.d/admit.fish
          $out/bin/admit man --out $out/share/man/man1
        '';
        meta = {
          description = "Builds an agent binary from a pin, proves what it built, and refuses to run anything else";
          license = with pkgs.lib.licenses; [ mit asl20 ];
          mainProgram = "admit";
          platforms = systems;
        };
      };
    in
    {
      packages = each (pkgs: rec {
        admit = build pkgs;
        default = admit;
      });

      apps = each (pkgs: rec {
        admit = {
          type = "app";
          program = "${self.packages.${pkgs.stdenv.hostPlatform.system}.admit}/bin/admit";
        };
        default = admit;
      });

      overlays.default = final: _: { admit = build final; };

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [ cargo rustc clippy rustfmt bubblewrap gzip git python3 openssl ];
        };
      });

      # What can be tried inside Nix's sandbox: the program starts, and knows what it is.
      checks = each (pkgs: {
        default = pkgs.runCommand "admit-check" { } ''
          export HOME=$TMPDIR
          ${self.packages.${pkgs.stdenv.hostPlatform.system}.admit}/bin/admit --version > $out
          ${self.packages.${pkgs.stdenv.hostPlatform.system}.admit}/bin/admit explain rehearsed >> $out
        '';
      });
    };
}
