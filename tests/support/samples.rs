//! Valid parameter values for any row of the method table.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use capgate::methods::{Kind, Method, Need};
use url::form_urlencoded::Serializer;

/// The smallest file that the gateway accepts as an image.
pub(crate) fn png() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.resize(120, 7);
    png
}

pub(crate) fn png_base64() -> String {
    BASE64_STANDARD.encode(png())
}

/// Appends the parameters that a submit of a row needs: its conditions, a proxy if the row requires one, the parameters
/// selected by `is_wanted`, and the first of each group of alternatives.
pub(crate) fn append_samples(form: &mut Serializer<'_, String>, method: &Method, is_wanted: impl Fn(Need) -> bool) {
    form.extend_pairs(method.when);
    if method.task_type.proxyless.is_none() {
        form.append_pair("proxy", "u:p@proxy.example:3128").append_pair("proxytype", "HTTP");
    }
    let is_first_of_group = |native: &str| method.any_of.iter().any(|group| group.first() == Some(&native));
    for param in method.params.iter().filter(|param| is_wanted(param.need) || is_first_of_group(param.native)) {
        let names = match param.kind {
            Kind::ImageList => param.legacy,
            _ => param.legacy.get(param.legacy.len().saturating_sub(1)..).unwrap_or_default(),
        };
        for name in names {
            form.append_pair(name, &sample(param.kind));
        }
    }
}

fn sample(kind: Kind) -> String {
    match kind {
        Kind::PageUrl | Kind::Url => "https://example.com/".to_owned(),
        Kind::Image | Kind::Images | Kind::ImageList | Kind::Audio => png_base64(),
        Kind::ImageArray => format!(r#"["{}"]"#, png_base64()),
        Kind::Integer | Kind::Decimal | Kind::Flag | Kind::PreviousTask => "1".to_owned(),
        Kind::Text | Kind::GoogleKey | Kind::Cookies | Kind::Host | Kind::Record => "sample".to_owned(),
    }
}
