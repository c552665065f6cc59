//! `src/externalscaler.rs` is what `proto/external_scaler.proto` says. `cargo xtask generate` writes it.

use std::path::Path;

use protox::Compiler;

const STALE: &str = "src/externalscaler.rs is not what the proto file says: run `cargo xtask generate`";

#[test]
fn the_committed_code_is_what_the_proto_file_says() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().expect("a temporary folder");
    let mut compiler = Compiler::new([crate_folder.join("proto")]).expect("the folder of the proto file");
    compiler.include_source_info(true).open_file("external_scaler.proto").expect("the proto file is read");
    tonic_prost_build::configure()
        .out_dir(made.path())
        .compile_fds(compiler.file_descriptor_set())
        .expect("code is generated");
    let made = std::fs::read_to_string(made.path().join("externalscaler.rs")).expect("the generated code");
    let committed = crate_folder.join("src/externalscaler.rs");
    if std::env::var_os("FOREWARM_WRITE_GENERATED").is_some() {
        std::fs::write(&committed, &made).expect("the code is written");
    }
    let committed = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(committed == made, "{STALE}");
}
