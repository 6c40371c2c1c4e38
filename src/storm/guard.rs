//! Protects third parties: a storm against another operator's host is an attack, so any host but this machine needs two
//! explicit arguments.

/// Checks whether a host may be targeted. `is_loopback`: every address of the host is a loopback address.
///
/// # Errors
/// The reason, with the arguments that allow the host.
pub fn check(host: &str, is_loopback: bool, remote: bool, confirmed: &[String]) -> Result<(), String> {
    if is_loopback || (remote && confirmed.iter().any(|name| name == host)) {
        return Ok(());
    }
    Err(format!(
        "{host} has an address that is not a loopback address; nothing was sent. Run a storm only against your own \
         staging deployment. If {host} is yours, add: --remote --confirm {host}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_host_needs_both_arguments() {
        let named = |name: &str| vec![name.to_owned()];
        assert!(check("localhost", true, false, &[]).is_ok());
        assert!(check("gate.test", false, false, &[]).is_err());
        assert!(check("gate.test", false, true, &[]).is_err());
        assert!(check("gate.test", false, false, &named("gate.test")).is_err());
        assert!(check("gate.test", false, true, &named("gate.tes")).is_err());
        assert!(check("gate.test", false, true, &named("")).is_err());
        assert!(check("gate.test", false, true, &named("gate.test")).is_ok());
        let error = check("gate.test", false, true, &[]).expect_err("refused");
        assert!(error.contains("--remote --confirm gate.test"), "{error}");
    }
}
