/work/main/benches/stores/target/debug/deps/capgate_stores-60ac359434974b22.d: src/main.rs src/crash.rs src/journal.rs src/measure.rs src/redb_store.rs src/sqlite_store.rs src/store.rs src/workload.rs

/work/main/benches/stores/target/debug/deps/libcapgate_stores-60ac359434974b22.rmeta: src/main.rs src/crash.rs src/journal.rs src/measure.rs src/redb_store.rs src/sqlite_store.rs src/store.rs src/workload.rs

src/main.rs:
src/crash.rs:
src/journal.rs:
src/measure.rs:
src/redb_store.rs:
src/sqlite_store.rs:
src/store.rs:
src/workload.rs:
