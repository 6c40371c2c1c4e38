#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| capgate_fuzz::multipart::run(data));
