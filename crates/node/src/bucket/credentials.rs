//! The files in which Amazon's own tools keep credentials. The library for object stores reads the
//! environment only. Nothing of them is ever shown.

use std::path::PathBuf;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// What names credentials in the environment, and goes before files.
const IN_ENVIRONMENT: [AmazonS3ConfigKey; 4] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
];

/// What files say, and what it is called there.
const IN_FILES: [(&str, AmazonS3ConfigKey); 4] = [
    ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
    ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
    ("aws_session_token", AmazonS3ConfigKey::Token),
    ("region", AmazonS3ConfigKey::Region),
];

/// Adds what `~/.aws/credentials` and `~/.aws/config`, or the files that the environment names
/// instead, say about the profile, for what the environment leaves open.
pub(super) fn with_files(mut builder: AmazonS3Builder) -> AmazonS3Builder {
    let has = |builder: &AmazonS3Builder, key: &AmazonS3ConfigKey| {
        builder.get_config_value(key).is_some()
    };
    let has_credentials = IN_ENVIRONMENT.iter().any(|key| has(&builder, key));
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    for (variable, name) in
        [("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")]
    {
        let named = std::env::var_os(variable).map(PathBuf::from);
        let usual = || Some(std::env::home_dir()?.join(".aws").join(name));
        let text = named.or_else(usual).and_then(|path| std::fs::read_to_string(path).ok());
        for (key, value) in section(&text.unwrap_or_default(), &profile) {
            let known = IN_FILES.iter().find(|(name, _)| *name == key);
            let Some((_, key)) = known else { continue };
            let is_region = matches!(key, AmazonS3ConfigKey::Region);
            if (is_region || !has_credentials) && !has(&builder, key) {
                builder = builder.with_config(*key, value);
            }
        }
    }
    builder
}

/// The lines of a profile: under `[NAME]`, or `[profile NAME]`.
fn section(text: &str, profile: &str) -> Vec<(String, String)> {
    let mut is_inside = false;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_inside = name.trim().strip_prefix("profile ").unwrap_or(name).trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_inside) {
            lines.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn the_credentials_of_a_profile_are_those_under_its_name() {
        let text = "[other]\nregion = x\n\n[profile mine]\nAWS_access_key_id=a\n# b\n region = y\n\
                    [default]\nregion = z\n";
        let lines = |profile| {
            section(text, profile).into_iter().map(|(key, value)| format!("{key}:{value}"))
        };
        assert_eq!(lines("mine").collect::<Vec<_>>(), ["aws_access_key_id:a", "region:y"]);
        assert_eq!(lines("default").collect::<Vec<_>>(), ["region:z"]);
        assert_eq!(lines("none").count(), 0);
    }
}
