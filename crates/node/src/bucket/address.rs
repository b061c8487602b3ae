//! Where a bucket is, as `config.toml` says it. It must never hold a secret: credentials are
//! those of the process's environment.

use std::path::PathBuf;

use reqwest::Url;

/// What a URL of a cold store looks like.
const FORMS: &str = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///PATH";

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Amazon S3, or a service that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage, which calls it a container.
    Azure,
}

/// A bucket and what the names of its objects begin with, or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BucketAddress {
    Service { kind: Kind, bucket: String, prefix: String },
    Folder(PathBuf),
}

impl BucketAddress {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it. The URL is not repeated: a secret may be in it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("the URL is malformed ({error})"))?;
        let has_secret = !url.username().is_empty() || url.password().is_some();
        if has_secret || url.query().is_some() || url.fragment().is_some() {
            return Err("the URL must have no name, password or query: credentials belong into \
                        the environment of the node"
                .to_owned());
        }
        if url.port().is_some() {
            return Err(
                "the URL names a bucket, so it has no port: the address of another service \
                        belongs into the environment of the node"
                    .to_owned(),
            );
        }
        let bucket = url.host_str().unwrap_or_default().to_owned();
        let prefix = url.path().trim_matches('/').to_owned();
        if url.scheme() == "file" {
            let path = url.to_file_path().ok().filter(|path| path.parent().is_some());
            return path.map(Self::Folder).ok_or_else(|| format!("it must read {FORMS}"));
        }
        if bucket.is_empty() {
            return Err(format!("the URL names no bucket: it must read {FORMS}"));
        }
        let kind = match url.scheme() {
            "s3" => Kind::S3,
            "gs" => Kind::Google,
            "az" => Kind::Azure,
            scheme => {
                return Err(format!("`{scheme}` is no kind of cold store: it must read {FORMS}"));
            }
        };
        Ok(Self::Service { kind, bucket, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::{BucketAddress, Kind};

    #[test]
    fn the_url_of_a_cold_store_names_a_bucket_and_a_prefix_or_a_folder() {
        let address = |text: &str| BucketAddress::parse(text).unwrap();
        for (url, kind, prefix) in [
            ("s3://b-1/a/b/", Kind::S3, "a/b"),
            ("gs://b-1", Kind::Google, ""),
            ("az://b-1/a", Kind::Azure, "a"),
        ] {
            let (bucket, prefix) = ("b-1".to_owned(), prefix.to_owned());
            assert_eq!(address(url), BucketAddress::Service { kind, bucket, prefix });
        }
        assert_eq!(address("file:///srv/a%20b"), BucketAddress::Folder("/srv/a b".into()));
    }

    #[test]
    fn a_url_with_a_secret_or_of_another_kind_is_refused_and_not_repeated() {
        for (url, reason) in [
            ("s3://AKIA:hidden@bucket/x", "credentials belong into the environment"),
            ("az://container/x?sig=hidden", "credentials belong into the environment"),
            ("gs://bucket/x#hidden", "credentials belong into the environment"),
            ("s3://bucket:9000/hidden", "it has no port"),
            ("s3:///hidden", "names no bucket"),
            ("https://bucket/hidden", "`https` is no kind of cold store"),
            ("file:///", "it must read"),
            ("hidden", "malformed"),
        ] {
            let refused = BucketAddress::parse(url).unwrap_err();
            assert!(refused.contains(reason), "{url}: {refused}");
            assert!(!refused.contains("hidden"), "{refused}");
        }
    }
}
