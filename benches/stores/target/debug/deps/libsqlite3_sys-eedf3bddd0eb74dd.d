/work/main/benches/stores/target/debug/deps/libsqlite3_sys-eedf3bddd0eb74dd.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/libsqlite3-sys-0.40.0/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/libsqlite3-sys-0.40.0/src/error.rs /work/main/benches/stores/target/debug/build/libsqlite3-sys-7514738c96bd273c/out/bindgen.rs

/work/main/benches/stores/target/debug/deps/liblibsqlite3_sys-eedf3bddd0eb74dd.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/libsqlite3-sys-0.40.0/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/libsqlite3-sys-0.40.0/src/error.rs /work/main/benches/stores/target/debug/build/libsqlite3-sys-7514738c96bd273c/out/bindgen.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/libsqlite3-sys-0.40.0/src/lib.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/libsqlite3-sys-0.40.0/src/error.rs:
/work/main/benches/stores/target/debug/build/libsqlite3-sys-7514738c96bd273c/out/bindgen.rs:

# env-dep:OUT_DIR=/work/main/benches/stores/target/debug/build/libsqlite3-sys-7514738c96bd273c/out
