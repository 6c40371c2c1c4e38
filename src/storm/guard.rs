//! A storm against somebody who did not ask for it is an attack: this machine only, unless told twice.

/// Whether a host may be stormed. `is_loopback`: every address of the host is one of this machine's own.
///
/// # Errors
/// Why not, and how to say that it is meant.
pub fn check(host: &str, is_loopback: bool, remote: bool, confirmed: &[String]) -> Result<(), String> {
    if is_loopback || (remote && confirmed.iter().any(|name| name == host)) {
        return Ok(());
    }
    Err(format!(
        "{host} is not (only) a loopback address, and a storm is for one's own staging deployment. Nothing was sent. If it \
         is yours, say so twice: --remote --confirm {host}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_stormed_unless_told_twice() {
        let named = |name: &str| vec![name.to_owned()];
        assert!(check("localhost", true, false, &[]).is_ok());
        assert!(check("gate.test", false, false, &[]).is_err());
        assert!(check("gate.test", false, true, &[]).is_err());
        assert!(check("gate.test", false, false, &named("gate.test")).is_err());
        assert!(check("gate.test", false, true, &named("gate.tes")).is_err());
        assert!(check("gate.test", false, true, &named("")).is_err());
        assert!(check("gate.test", false, true, &named("gate.test")).is_ok());
        let why = check("gate.test", false, true, &[]).expect_err("refused");
        assert!(why.contains("--remote --confirm gate.test"), "{why}");
    }
}
