//! The arguments of `capgate translate`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::config_file::ConfigFile;
use super::output::{EXIT_FAILURE, print_result};
use crate::config::Config;
use crate::native::Answer;
use crate::translate;

#[derive(Args)]
pub(super) struct Translate {
    /// URL of the request, or its path and query: "/in.php?key=…&method=…".
    #[arg(required_unless_present = "request")]
    url: Option<String>,
    /// File with a raw HTTP request, instead of a URL; "-" for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "data"])]
    request: Option<PathBuf>,
    /// Body of a POST to the URL; "@FILE" reads it from a file.
    #[arg(long, value_name = "BODY")]
    data: Option<String>,
    /// Content type of the body.
    #[arg(long, value_name = "TYPE", default_value = "application/x-www-form-urlencoded")]
    content_type: String,
    /// Native answer, to show the reply to the client: JSON, or "@FILE".
    #[arg(long, value_name = "JSON")]
    answer: Option<String>,
    /// HTTP status of the native answer.
    #[arg(long, value_name = "STATUS", default_value_t = 200)]
    status: u16,
    /// Row of the method table under which a polled task was submitted.
    #[arg(long, value_name = "ROW")]
    row: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

impl Translate {
    pub(super) fn run(self, environment: impl Iterator<Item = (String, String)>) -> ExitCode {
        self.file.with_config(environment, |config| print_result(&self.explain(config), |_| EXIT_FAILURE))
    }

    fn explain(&self, config: &Config) -> Result<String, String> {
        let inbound = match (&self.request, &self.url) {
            (Some(file), _) => translate::from_http(&read(file)?)?,
            (None, url) => {
                let data = self.data.as_deref().map(text_or_file).transpose()?;
                translate::from_url(url.as_deref().unwrap_or_default(), data.as_deref(), &self.content_type)?
            }
        };
        let body = self.answer.as_deref().map(text_or_file).transpose()?;
        let answer = body.map(|body| Answer::new(self.status, body.into()));
        translate::explain(&inbound, answer.as_ref(), self.row.as_deref(), &config.legacy_limits())
    }
}

/// Reads a file, or standard input for "-".
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let bytes = if file.to_str() == Some("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    bytes.map_err(|error| format!("{}: {error}", file.display()))
}

/// Reads the file of "@FILE"; returns any other text.
fn text_or_file(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None => Ok(text.as_bytes().to_vec()),
    }
}
