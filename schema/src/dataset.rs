//! What a dataset declares: routes, key, layout, history roles and columns.

/// The partition column that every dataset has, first: the UTC date of the export's generated time.
pub const SNAPSHOT_DATE: Column = Column {
    name: "snapshot_date",
    field_id: 1_001,
    child_ids: &[],
    column_type: ColumnType::Date32,
    presence: Presence::Required,
    origin: Origin::Export,
    aliases: &[],
    doc: "UTC date of the export's generated time.",
    source: "defender-lake",
};

/// The column that `--extra-fields capture` adds to the data files.
pub const EXTRA_FIELDS: Column = Column {
    name: "ExtraFields",
    field_id: 1_002,
    child_ids: &[],
    column_type: ColumnType::Utf8,
    presence: Presence::Optional,
    origin: Origin::Undocumented,
    aliases: &[],
    doc: "Undocumented fields of the record as one JSON object; null where there are none.",
    source: "defender-lake",
};

/// Field ids of a dataset's own columns are below this; from here on they are those of columns that
/// all datasets share.
pub const FIRST_SHARED_FIELD_ID: i32 = 1_001;

/// One table that we publish, as the service documents it.
#[derive(Debug)]
pub struct Dataset {
    /// Table name in the lake, `snake_case`.
    pub name: &'static str,
    /// Version of this declaration; every column that is added raises it.
    pub version: u32,
    /// One sentence: what a row is.
    pub doc: &'static str,
    /// The documentation that the declaration follows.
    pub source: &'static str,
    /// The API calls that it comes from.
    pub routes: Routes,
    /// Permission that the calls need.
    pub permission: Permission,
    /// Columns that together identify a row, by documentation.
    pub key: &'static [&'static str],
    /// Text column whose values are directories below [`SNAPSHOT_DATE`]'s; declared in `columns`,
    /// absent from the data files.
    pub partition_by: Option<&'static str>,
    /// Whether a tenant may have no record of it: an empty export is then not an error.
    pub may_be_empty: bool,
    /// How the data files are laid out.
    pub layout: Layout,
    /// The roles of its columns in `diff` and `trend`; `None` if they do not support it.
    pub history: Option<HistoryRoles>,
    /// What the page of `report` shows of it.
    pub report: ReportRoles,
    /// All columns but [`SNAPSHOT_DATE`], in the order of the data files.
    pub columns: &'static [Column],
}

/// The API calls that a dataset comes from, paths relative to `<api>/api/`; at least one is declared.
#[derive(Debug, Clone, Copy)]
pub struct Routes {
    /// The listing call that answers with signed download URLs.
    pub files: Option<&'static str>,
    /// The paged JSON call.
    pub json: Option<&'static str>,
}

/// The permission that a dataset's calls need, under its two names.
#[derive(Debug)]
pub struct Permission {
    /// Name of the application permission (a role of the token).
    pub application: &'static str,
    /// Name of the delegated permission (a scope of the token).
    pub delegated: &'static str,
}

/// How a dataset's data files are laid out. Names are those of columns in the files.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Text columns that rows of one kind agree in, the coarsest first: rows that agree stand together,
    /// as far as that costs nothing else.
    pub cluster_by: &'static [&'static str],
    /// Text columns with a bloom filter: those that people look one value up in, and whose minimum and
    /// maximum in a row group say nothing.
    pub bloom: &'static [&'static str],
    /// Columns that are not compressed: those that most questions read and whose dictionary keys leave
    /// little to compress.
    pub uncompressed: &'static [&'static str],
}

/// The roles of a dataset's columns in `diff` and `trend`, which know columns by their roles alone.
#[derive(Debug, Clone, Copy)]
pub struct HistoryRoles {
    /// Column that identifies a device.
    pub device: &'static str,
    /// Column with the device's name.
    pub device_name: Option<&'static str>,
    /// Column with the device's group.
    pub group: Option<&'static str>,
    /// Column with the device's platform.
    pub platform: Option<&'static str>,
    /// Key columns that say what is on the device, the coarsest first: the key without device and version. If there
    /// are none, a row is a device, and only its values change.
    pub product: &'static [&'static str],
    /// Text column with the product's version, by which an addition and a removal are paired to a change; the versions
    /// of a device and product are told apart by it, whether it is in the key or not.
    pub version: Option<&'static str>,
    /// Text column that is null in rows which say only that the device is there: they are not compared, and no
    /// measure counts them.
    pub only_with: Option<&'static str>,
    /// Columns whose values are compared if both snapshots have the key.
    pub compared: &'static [ComparedColumn],
    /// Counts of a snapshot beside its devices, in the order of `trend`'s columns.
    pub measures: &'static [Measure],
    /// Measure that `trend --by` ranks and draws.
    pub main_measure: &'static str,
    /// Status column, and the values of it that `diff` lists.
    pub status: Option<Status>,
    /// Names of the kinds of change.
    pub words: ChangeWords,
    /// Names that people filter and group by, and their columns.
    pub filters: &'static [(&'static str, &'static str)],
}

/// A column whose values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedColumn {
    /// Name of the column.
    pub column: &'static str,
    /// Kind of a change of its value.
    pub kind: &'static str,
}

/// A count of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Name of its column in `trend`.
    pub name: &'static str,
    /// What is counted.
    pub counted: Counted,
}

/// What a measure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Rows.
    Rows,
    /// Distinct values of [`HistoryRoles::product`].
    Products,
    /// Distinct values of text columns that are not all null.
    Distinct(&'static [&'static str]),
    /// Sum of a column of 32-bit integers.
    Sum(&'static str),
    /// Rows whose status begins as [`Status::prefix`] says.
    Status,
    /// Rows that meet all conditions.
    Where(&'static [Condition]),
    /// Share of the rows of measure `of` that measure `but` does not count, from 0 to 1; null if there are none.
    Share {
        /// Name of a measure before this one.
        of: &'static str,
        /// Name of a measure before this one.
        but: &'static str,
    },
}

/// A condition on a column of a row; null meets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Name of the column.
    pub column: &'static str,
    /// What its value must be.
    pub is: Is,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// This boolean.
    Boolean(bool),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A time before that of the snapshot.
    Past,
    /// A time from that of the snapshot on, and less than so many days after it.
    WithinDays(u32),
}

/// A text column that is a status, and its values of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Name of the column.
    pub column: &'static str,
    /// How the values of interest begin; the set is open.
    pub prefix: &'static str,
    /// Title of the list of products that have come to such a value.
    pub title: &'static str,
}

/// Names of a dataset's kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeWords {
    /// A key that only the new snapshot has.
    pub added: &'static str,
    /// A key that only the old snapshot has.
    pub removed: &'static str,
    /// A product with another version; not used without [`HistoryRoles::version`].
    pub version_changed: &'static str,
}

/// The roles of a dataset's columns on the page of `report`: each role that is declared is a section of the page.
#[derive(Debug, Clone, Copy)]
pub struct ReportRoles {
    /// Counts that are key figures.
    pub figures: &'static [ReportFigure],
    /// Columns that name a thing in few words, the coarsest first: the product without what tells its occurrences
    /// apart. They are part of [`HistoryRoles::product`].
    pub name: &'static [&'static str],
    /// Products that are listed, with what [`HistoryRoles`] says of versions, platforms and groups.
    pub products: Option<ProductRoles>,
    /// When support ends; [`HistoryRoles::status`] says whether it has ended.
    pub support: Option<SupportRoles>,
    /// What is known of vulnerabilities.
    pub exposure: Option<ExposureRoles>,
    /// What expires.
    pub expiry: Option<ExpiryRoles>,
    /// What is a risk.
    pub risk: Option<RiskRoles>,
    /// Name of the measure that devices are ranked by.
    pub device_measure: Option<&'static str>,
}

impl ReportRoles {
    /// No section.
    pub const NONE: Self = Self {
        figures: &[],
        name: &[],
        products: None,
        support: None,
        exposure: None,
        expiry: None,
        risk: None,
        device_measure: None,
    };
}

/// A key figure of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportFigure {
    /// Its name, unique among all datasets.
    pub name: &'static str,
    /// What it counts, in few words.
    pub title: &'static str,
    /// The measure that it is, or `devices`.
    pub measure: &'static str,
    /// Which direction is good news.
    pub better: Better,
}

/// Which direction of a figure is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
    /// Neither.
    Neither,
}

/// Roles of the columns of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductRoles {
    /// Column of 32-bit integers with the weaknesses of a row.
    pub weaknesses: Option<&'static str>,
}

/// Roles of the columns of support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupportRoles {
    /// Column with the date on which support ends or ended.
    pub end_date: &'static str,
}

/// Roles of the columns of vulnerabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExposureRoles {
    /// Text column that identifies the vulnerability.
    pub finding: &'static str,
    /// Text column with the severity.
    pub severity: &'static str,
    /// Its known values, the worst first; the first is what counts as critical.
    pub severities: &'static [&'static str],
    /// Text column with the exploitability.
    pub exploitability: &'static str,
    /// Its known values that say that there is an exploit, the worst first.
    pub exploitable: &'static [&'static str],
    /// Its known values that say that there is none.
    pub not_exploitable: &'static [&'static str],
    /// Column of floating point numbers with the score.
    pub score: &'static str,
    /// Timestamp column: since when the finding is known.
    pub first_seen: &'static str,
    /// Boolean column: whether there is an update.
    pub update_available: &'static str,
}

/// Roles of the columns of what expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryRoles {
    /// Text column that identifies it.
    pub id: &'static str,
    /// JSON column with its name: an object with a [`ExpiryRoles::name_member`], or text.
    pub name: &'static str,
    /// Member of the object that is the name.
    pub name_member: &'static str,
    /// Timestamp column: when it expires.
    pub expires: &'static str,
    /// Name of the measure of what has expired.
    pub expired: &'static str,
}

/// Roles of the columns of what is a risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RiskRoles {
    /// Text column that identifies it.
    pub id: &'static str,
    /// Text column with its name.
    pub name: &'static str,
    /// Text column: where it runs.
    pub place: &'static str,
    /// Text column with its risk.
    pub risk: &'static str,
    /// The values of it that are high, the worst first.
    pub high: &'static [&'static str],
    /// Boolean column: whether it is switched on.
    pub active: &'static str,
}

/// One column of a dataset.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Name in the lake, and of the property on the wire (matched there without regard to case).
    pub name: &'static str,
    /// The column's number in the dataset. Never changed and never used again. The first version of a dataset
    /// is numbered as Iceberg numbers a new table: its columns in the order of the Delta table (those of the
    /// files, then a number for [`SNAPSHOT_DATE`], then the partition column), then what is inside of lists.
    pub field_id: i32,
    /// Numbers of what is inside of a list: its element, then the members of a struct.
    pub child_ids: &'static [i32],
    /// Type of its values.
    pub column_type: ColumnType,
    /// Whether it may be null.
    pub presence: Presence,
    /// Where its values come from.
    pub origin: Origin,
    /// Other names of the property on the wire.
    pub aliases: &'static [Alias],
    /// What it means, one sentence.
    pub doc: &'static str,
    /// The documentation that the column follows.
    pub source: &'static str,
}

/// Another name of a property on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// The name, matched without regard to case.
    pub name: &'static str,
    /// Whether it holds one element of a list rather than the list: that is then not a coercion.
    pub is_single_element: bool,
}

/// Type of a column's values. Every derivation is one `match` over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Utf8,
    /// Signed 32-bit integer.
    Int32,
    /// Signed 64-bit integer.
    Int64,
    /// 64-bit floating point number.
    Float64,
    /// `true` or `false`.
    Boolean,
    /// Days since the epoch.
    Date32,
    /// Instant in microseconds since the epoch, UTC.
    TimestampMicros,
    /// JSON as text, as the service wrote it.
    Json,
    /// List of UTF-8 text; elements may be null, `[]` and null differ.
    Utf8List,
    /// List of structs; elements and members may be null, `[]` and null differ.
    StructList(&'static [StructMember]),
}

/// A member of a struct, always nullable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StructMember {
    /// Name, in the lake and on the wire (matched there without regard to case).
    pub name: &'static str,
    /// Type of its values, not a list.
    pub column_type: ColumnType,
}

/// Whether a column may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Never null.
    Required,
    /// May be null.
    Optional,
}

/// Where a column's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A property of the record with the column's name.
    Property,
    /// The export itself: one value for all rows of a snapshot.
    Export,
    /// The record's properties that are not declared.
    Undocumented,
}

impl Dataset {
    /// The name as the command line spells it: `software-inventory`.
    pub fn cli_name(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The columns that are stored in the data files, in their order: all but the partition columns.
    pub fn file_columns(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(|column| self.partition_by != Some(column.name))
    }

    /// The columns that a record's properties fill, partition columns included: what a decoder binds.
    pub fn properties(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().filter(|column| column.origin == Origin::Property)
    }

    /// The partition columns in directory order, [`SNAPSHOT_DATE`] first.
    pub fn partition_columns(&self) -> impl Iterator<Item = &'static Column> {
        std::iter::once(&SNAPSHOT_DATE).chain(self.partition_by.and_then(|name| self.column(name)))
    }

    /// Finds one of its own columns.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the column that holds the export's generated time.
    ///
    /// # Panics
    ///
    /// If there is none; tests hold every declaration to one.
    pub fn generated_time(&self) -> &'static Column {
        self.columns.iter().find(|column| column.origin == Origin::Export).expect("tests hold this")
    }
}

impl Column {
    /// The documentation line: what the column means, and who says so.
    pub fn doc_line(&self) -> String {
        format!("{} [{}]", self.doc, self.source)
    }
}

impl ColumnType {
    /// Returns a short name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "string",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Boolean => "boolean",
            Self::Date32 => "date32",
            Self::TimestampMicros => "timestamp(us, UTC)",
            Self::Json => "JSON",
            Self::Utf8List => "list of string",
            Self::StructList(_) => "list of struct",
        }
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
