#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Its twin on every toolchain: crates/recovery/tests/it/alerts.rs.
    let _ = recovery::alert::parse(bytes);
    let _ = recovery::alert::signature::check_sns(bytes, &String::from_utf8_lossy(bytes));
    let _ = recovery::alert::signature::check_hmac(bytes, &String::from_utf8_lossy(bytes), "x");
    let template = recovery::template::Template::parse(&String::from_utf8_lossy(bytes));
    let _ = template.render(&recovery::plan::Parameters::new());
});
