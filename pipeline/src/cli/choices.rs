//! How options spell what can be chosen: names and help of enums that other modules own.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::auth::AuthMethod;
use crate::fetch::cloud::Cloud;
#[cfg(feature = "history")]
use crate::history::trend::By;
use crate::ingest::IfPublished;
use crate::lake::TableKind;
use crate::progress::ProgressMode;

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

choices!(TableKind {
    Plain = "plain", "Names: all Parquet files below the table's root";
    Delta = "delta", "The log of a Delta table";
});

choices!(IfPublished {
    Skip = "skip", "Nothing";
    Replace = "replace", "Publish it again in its place";
    Fail = "fail", "Fail";
});

choices!(ProgressMode {
    Auto = "auto", "Bars where stderr is a terminal, else plain lines";
    Bar = "bar", "Bars";
    Plain = "plain", "Log lines";
    None = "none", "Nothing";
});

#[cfg(feature = "history")]
choices!(By {
    Platform = "platform", "Each platform";
    Group = "group", "Each device group";
    Vendor = "vendor", "Each vendor";
    Product = "product", "Each product, with its vendor";
});
