//! Microsoft's clouds: hosts of the API, the authority and the exports of each.

use serde::Deserialize;

/// One of Microsoft's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// The commercial cloud.
    #[default]
    Worldwide,
    /// US government, moderate impact.
    Gcc,
    /// US government, high impact.
    GccHigh,
    /// US Department of Defense.
    Dod,
}

/// The presets of a cloud, each of which an option can override.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Base of the API.
    pub api_url: &'static str,
    /// The other hosts of the same API: regional and legacy ones.
    pub sister_hosts: &'static [&'static str],
    /// Authority that tokens come from.
    pub login_url: &'static str,
    /// Audience of the token.
    pub scope: &'static str,
    /// Suffixes of the hosts that parts may be fetched from.
    pub blob_hosts: &'static [&'static str],
}

impl Cloud {
    /// Returns the presets of the cloud.
    pub fn preset(self) -> Preset {
        match self {
            // The host moved to api.security.microsoft.com, the audience of tokens did not.
            Self::Worldwide => Preset {
                api_url: "https://api.security.microsoft.com",
                sister_hosts: &[
                    "api.security.microsoft.com",
                    ".api.security.microsoft.com",
                    ".securitycenter.microsoft.com",
                    ".securitycenter.windows.com",
                ],
                login_url: "https://login.microsoftonline.com",
                scope: "https://api.securitycenter.microsoft.com/.default",
                blob_hosts: &["blob.core.windows.net"],
            },
            // Microsoft documents the hosts of the government clouds, but not their scopes nor where
            // their exports are stored: those two follow the pattern of the others.
            Self::Gcc => Preset {
                api_url: "https://api-gcc.securitycenter.microsoft.us",
                sister_hosts: &["api-gcc.securitycenter.microsoft.us"],
                login_url: "https://login.microsoftonline.com",
                scope: "https://api-gcc.securitycenter.microsoft.us/.default",
                blob_hosts: &["blob.core.usgovcloudapi.net", "blob.core.windows.net"],
            },
            Self::GccHigh | Self::Dod => Preset {
                api_url: "https://api-gov.securitycenter.microsoft.us",
                sister_hosts: &["api-gov.securitycenter.microsoft.us"],
                login_url: "https://login.microsoftonline.us",
                scope: "https://api-gov.securitycenter.microsoft.us/.default",
                blob_hosts: &["blob.core.usgovcloudapi.net"],
            },
        }
    }
}
