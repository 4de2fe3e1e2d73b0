//! The names and help of options' values, for enums of other modules.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::auth::AuthMethod;
use crate::fetch::cloud::Cloud;
use crate::ingest::IfPublished;
use crate::lake::TableKind;
use crate::progress::ProgressMode;
use crate::source::ApiRoute;

macro_rules! choices {
    ($type:ty { $($variant:ident = $name:expr $(, $help:literal)?;)* }) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$variant => PossibleValue::new($name)$(.help($help))?,)*
                })
            }
        }
    };
}

choices!(Cloud {
    Worldwide = "worldwide";
    Gcc = "gcc";
    GccHigh = "gcc-high";
    Dod = "dod";
});

choices!(AuthMethod {
    Auto = Self::Auto.as_str();
    ClientSecret = Self::ClientSecret.as_str();
    ClientCertificate = Self::ClientCertificate.as_str();
    WorkloadIdentity = Self::WorkloadIdentity.as_str();
    ManagedIdentity = Self::ManagedIdentity.as_str();
    AzureCli = Self::AzureCli.as_str();
});

choices!(ApiRoute {
    Files = "files", "Files from signed download URLs";
    Json = "json", "Pages of JSON";
});

choices!(TableKind {
    Plain = "plain", "Readers glob the Parquet files below the table's root";
    Delta = "delta", "Readers follow the Delta log";
});

choices!(IfPublished {
    Skip = "skip", "Leave it and exit with 0";
    Replace = "replace", "Replace it";
    Fail = "fail", "Exit with 6";
});

choices!(ProgressMode {
    Auto = "auto", "Bars if stderr is a terminal, else log lines";
    Bar = "bar", "Bars";
    Plain = "plain", "A log line every 10 seconds";
    None = "none", "Nothing";
});
