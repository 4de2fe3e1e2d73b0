//! Laws of decoding, on generated parts: what the oracle says, in any shape, buffer and split.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use schema::{Column, ColumnType, Dataset, Presence};

use crate::oracle::agreement::{Reading, check, check_all, decode_part, sort_by_partition};

/// Names that are those of no column, or of one now and then.
const OTHER_NAMES: &[&str] = &[
    r"\u0044eviceId",
    "GeneratedTime",
    "snapshot_date",
    "ExtraFields",
    "RbacGroupId",
    "",
    "x",
    "X",
    r"\ud83d\ude00",
    r#"\""#,
    "(other names)",
    "value",
    "@odata.context",
    "error",
    "Message",
];

/// Names on the wire: those of the columns in several spellings, those inside of them, and others.
fn names(dataset: &Dataset) -> Vec<String> {
    let mut names: Vec<String> = OTHER_NAMES.iter().map(|&name| name.to_owned()).collect();
    for column in dataset.properties() {
        names.extend([column.name.to_owned(), camel_case(column.name)]);
        names.extend(column.aliases.iter().flat_map(|alias| [alias.name.to_owned(), camel_case(alias.name)]));
        if let ColumnType::StructList(members) = column.column_type {
            names.extend(members.iter().map(|member| member.name.to_owned()));
        }
        if column.presence == Presence::Required {
            let upper = column.name.to_ascii_uppercase();
            names.extend([column.name.to_owned(), column.name.to_ascii_lowercase(), upper]);
        }
    }
    names
}

fn camel_case(name: &str) -> String {
    name[..1].to_ascii_lowercase() + &name[1..]
}

/// Texts of single values, each at some boundary of pipeline/docs/lake.md#values.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "{}",
    "{ }",
    "[]",
    "[ ]",
    "0",
    "-0",
    "3",
    "3.0",
    "-3.00",
    "3.5",
    "30e-1",
    "0.3e1",
    "3.00000000000000001",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "1e400",
    "-1e400",
    "1e-400",
    "0e999999999999999999999",
    "1e99999999999999999999",
    "9223372036854775808",
    "18446744073709551616",
    "123456789012345678901234567890",
    "0.1",
    "1E5",
    "1e+5",
    "7.0",
    "20.5",
    "5e-324",
    "1.7976931348623159e308",
    "01",
    "1.",
    ".5",
    "-",
    "+1",
    "1e",
    "1e+",
    "0x1",
    "NaN",
    "Infinity",
    "nul",
    "True",
    "truee",
    "nullnull",
    "--1",
    r#""""#,
    r#""3""#,
    r#""-3""#,
    r#""007""#,
    r#""3.0""#,
    r#""+3""#,
    r#"" 3""#,
    r#""2147483648""#,
    r#""\u0033""#,
    r#""a""#,
    r#""a\\b\/c\"d""#,
    r#""\u0000""#,
    r#""\u001f\b\f\n\r\t""#,
    "\"\u{2028}\u{85}\u{feff}\"",
    "\"é\u{10ffff}\"",
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\ude00""#,
    r#""\ud83d\u0041""#,
    r#""\ud83d\ud83d""#,
    r#""\ud83d\uffff""#,
    r#""\ud83dx""#,
    r#""\uD83D\n""#,
    r#""\u12""#,
    r#""\u12g4""#,
    r#""\x""#,
    r#""\""#,
    "\"\t\"",
    "\"\u{1f}\"",
    "\"\u{7f}\"",
    "\"\u{0}\"",
    "\"a\nb\"",
    "\"a\\\nb\"",
    "\"a\rb\"",
    r#""2020-12-30""#,
    r#""2021-02-30""#,
    r#""2020-02-29""#,
    r#""2019-04-07 02:06:47""#,
    r#""2021-01-11 09:47:58.854""#,
    r#""2020-11-03 10:13:34.8476889""#,
    r#""2020-11-03T10:13:34.123456789012Z""#,
    r#""2021-05-11T00:30:00+02:00""#,
    r#""2021-05-11 23:30:00-02:30""#,
    r#""0001-01-01T00:00:00Z""#,
    r#""0001-01-01""#,
    r#""0001-02-30""#,
    r#""0000-01-01T00:00:00+23:59""#,
    r#""9999-12-31T23:59:59.9999999-23:59""#,
    r#""2021-01-11T24:00:00Z""#,
    r#""2021-01-11T11:01:60Z""#,
    r#""2021-01-11T11:01:00.Z""#,
    r#""2021-01-11T11:01:00+0200""#,
    r#""2021-01-11t11:01:00z""#,
    r#""2021-1-1""#,
    r#""2024-02-03 4:05:06""#,
    r#""2024-02-03T4:05:06.1234567+02:00""#,
    r#""2024-02-03 :05:06""#,
    r#""0001-01-01 0:00:00""#,
    r#""\/Date(1620691200000)\/""#,
    "9007199254740993.0",
    "21474836470e-1",
    r#""2021-01-11 ""#,
    r#""٢٠٢١-٠١-١١""#,
    r#"["a","b"]"#,
    r#"["a",null,"b"]"#,
    "[null]",
    r#"["a",3,2.50]"#,
    r#"["a",true]"#,
    "[false,true,null]",
    r#"[["a"]]"#,
    "[{}]",
    "[1,]",
    "[,1]",
    r#"{"a":{"DeviceId":"no"},"a":[{}]}"#,
    r#"{"a":"\ud800"}"#,
    r#"{"a":01}"#,
    r#"{"a":1,}"#,
    "{a:1}",
    "{'a':1}",
    "[1 2]",
    r#""__HIVE_DEFAULT_PARTITION__""#,
    r#""..""#,
    r#""a/b=c%""#,
    r#""True""#,
    r#""FALSE""#,
    r#""0""#,
    r#""1""#,
    "1.0",
    "0.0",
    "-0.0",
    "1",
    r#""Unknown""#,
    r#""unKNOWN""#,
    r#""-""#,
    r#""yes""#,
    r#""7.0""#,
    r#""1e400""#,
    r#""-1.5E-3""#,
    r#""NaN""#,
    r#""1.""#,
    r#""01""#,
    r#"[{"Id":"tabs","IsRequired":true,"Risk":"High"},null,{}]"#,
    r#"[{"id":1,"isRequired":"maybe"},"storage",7,[],{"Id":"a","ID":"b","Other":1,"Other":2}]"#,
    r#"[{"IsRequired":"True"},{"isrequired":"Unknown"},{"\u0049d":"]"}]"#,
    r#"{ "a" : "b \" c" , "a":[ 1.50 , {} ] }"#,
    r#""{\"a\":\"{\\\"b\\\":null}\",\"c\":\"\\\\\\\\\"}""#,
    r#"["[","}"]"#,
];

fn value(dataset: &Dataset) -> impl Strategy<Value = String> + use<> {
    let names = names(dataset);
    let leaf = prop_oneof![
        6 => select(VALUES).prop_map(str::to_owned),
        2 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => (0..400_usize, select(&["x", "%", "é", "/"][..]))
            .prop_map(|(len, text)| format!("\"{}\"", text.repeat(len))),
        1 => (select(&["[", "{\"a\":"][..]), select(&[1, 60, 63, 64, 65, 126, 127, 128, 129, 255, 256, 257][..]), any::<bool>())
            .prop_map(|(open, depth, newlines)| {
                let close = if open == "[" { "]" } else { "}" };
                let line = if newlines { "\n" } else { "" };
                format!("{}0{}", format!("{open}{line}").repeat(depth), close.repeat(depth))
            }),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(", "))),
            vec((select(names.clone()), inner), 0..4).prop_map(|members| object(&members, " ")),
        ]
    })
}

fn object<N: AsRef<str>, V: AsRef<str>>(members: &[(N, V)], space: &str) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("{space}\"{}\"{space}:{space}{}", name.as_ref(), value.as_ref()))
        .collect();
    format!("{{{}{space}}}", members.join(&format!("{space},")))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 2 => Just(" "), 1 => Just("\n  "), 1 => Just("\r\n\t"), 1 => Just("\u{c}")]
}

fn record(dataset: &Dataset) -> impl Strategy<Value = String> + use<> {
    let required = required(dataset);
    let members = vec((select(names(dataset)), value(dataset)), 0..8);
    (any::<bool>(), members, space()).prop_map(move |(usable, mut members, space)| {
        if usable {
            members.push((required.to_owned(), "\"d\"".to_owned()));
        }
        object(&members, space)
    })
}

fn required(dataset: &Dataset) -> &'static str {
    dataset.properties().find(|column| column.presence == Presence::Required).expect("one is required").name
}

/// Text in place of a record.
fn line(dataset: &Dataset) -> impl Strategy<Value = String> + use<> {
    prop_oneof![
        12 => record(dataset),
        1 => value(dataset),
        1 => Just("<html>\r\n<body class=\"x\">{not json}</body>".to_owned()),
        1 => (record(dataset), any::<prop::sample::Index>()).prop_map(|(mut record, at)| {
            let at = at.index(record.len() + 1);
            record.truncate((0..=at).rev().find(|at| record.is_char_boundary(*at)).unwrap_or(0));
            record
        }),
    ]
}

/// The text of a part in one of its shapes.
fn part(dataset: &Dataset) -> impl Strategy<Value = String> + use<> {
    let separator = select(&["\n", "\n", "\n", "\r\n", "\n\n \n", "", " ", ",", "\u{c}\n", "\u{feff}\n"][..]);
    let records = vec((line(dataset), separator), 0..6);
    let wrap = select(
        &[
            ("", ""),
            ("", ""),
            ("", ""),
            ("\u{feff}", ""),
            (" \r\n", "\n"),
            ("[", "]"),
            ("\u{feff} [\n", "\n] \n"),
            ("[", ""),
            ("[", "] x"),
            (r#"{"value":["#, "]}"),
            (r#"{"@odata.context":"c","value":["#, r#"],"@odata.nextLink":"https://h/?a=]}"}"#),
            ("{\n\"@odata.count\" : 3 ,\n \"value\" :\n [", "\n]\n}\n"),
            (r#"{"@odata.context":{"value":[1]},"value":["#, r#"],"value":[]}"#),
            (r#"{"@odata.context":1,,"value":["#, "]}"),
            (r#"{"@odata.context":1,"value":["#, "],}"),
            (r#"{"@odata.context":1,"Value":["#, "]}"),
            ("{\u{c}\"value\":[", "]}"),
        ][..],
    );
    (wrap, records, any::<bool>()).prop_map(|((before, after), records, commas)| {
        let is_list = before.trim_end().ends_with('[');
        let mut text = before.to_owned();
        for (index, (record, separator)) in records.iter().enumerate() {
            if is_list && commas && index > 0 {
                text.push(',');
            }
            text.push_str(record);
            text.push_str(separator);
        }
        text + after
    })
}

/// A value that fits its column, as often as not the one that the row before has.
fn usual(dataset: &Dataset, name: &str) -> impl Strategy<Value = &'static str> + use<> {
    let values: &[&str] = match dataset.column(name).map(|column| column.column_type) {
        Some(ColumnType::Int32 | ColumnType::Int64) => {
            &["0", "0", "7", "12", "123456789", "1234567890", "-1", "null"]
        }
        Some(ColumnType::Float64) => &["7.0", "7.0", "7", "9.8", "-0", "5e-1", "null", r#""""#],
        Some(ColumnType::Boolean) => &["true", "true", "false", "false", "null", r#""True""#, r#""Unknown""#],
        Some(ColumnType::Utf8List) => &[
            "[]",
            r#"["C:\\a b\\c.exe"]"#,
            r#"["C:\\a b\\c.exe","/x"]"#,
            r#"["ends in \\","\"quoted\""]"#,
            r#"["]","],","\\\\"]"#,
            "null",
        ],
        Some(ColumnType::Json) => &[
            r#""{\"AvMode\":\"0\",\"Scans\":\"{\\\"Quick\\\":{\\\"ErrorCode\\\":\\\"\\\"}}\",\"n\":null}""#,
            r#""{\"AvMode\":\"0\"}""#,
            r#"{"CommonName":"a, b","Organization":"Example [1]"}"#,
            r#"{"CommonName":"a","Nested":{"b":[1,{"c":"}"}]}}"#,
            r#"[["0","4.18.1"],[]]"#,
            r#"["DigitalSignature"]"#,
            r#""plain \u00e9 \\""#,
            r#""""#,
            "null",
        ],
        Some(ColumnType::StructList(_)) => &[
            r#"[{"Id":"tabs","IsRequired":true,"Risk":"High"},{"Id":"https://*/*","IsRequired":false,"Risk":"Medium"}]"#,
            r#"[{"Id":"tabs","IsRequired":true,"Risk":"High"}]"#,
            r#"[{"Id":"a]}","Risk":null},null,{}]"#,
            "[]",
            "null",
            r#"["tabs","storage"]"#,
            r#"[{"Id":"tabs","Other":[1]}]"#,
        ],
        Some(ColumnType::TimestampMicros | ColumnType::Date32) => &[
            r#""2020-02-29 02:06:47""#,
            r#""2020-02-29 02:06:47""#,
            r#""2021-01-11T09:47:58.854Z""#,
            r#""2021-01-11""#,
            r#""2021-01-11 9:47:58""#,
            r#""0001-01-01T00:00:00Z""#,
            r#""""#,
            "null",
        ],
        Some(ColumnType::Utf8) if dataset.partition_by == Some(name) => {
            &[r#""Windows11""#, r#""Windows11""#, r#""Linux""#, r#""""#, "null", r#""a\\b""#, r#""a\b""#]
        }
        Some(ColumnType::Utf8) => {
            &[r#""a""#, r#""a""#, r#""ab""#, r#""a\"b""#, r#""a\\""#, r#""é""#, r#""\u0061""#, "\"\u{7f}\""]
        }
        None => &["1", "1", "14", "null", r#""a""#, r#"{"a":[1,"}"]}"#, "[]"],
    };
    select(values)
}

/// Records as one program writes them: some of the names in one order, some of them left out, now and then a
/// value that is not usual. What is predicted of a record is nearly always right.
fn alike(dataset: &'static Dataset) -> impl Strategy<Value = String> {
    let required = required(dataset);
    let columns: Vec<_> =
        dataset.properties().map(|column| column.name).filter(|name| *name != required).collect();
    let most = columns.len().min(11);
    let names = prop::sample::subsequence(columns, 3..=most).prop_map(move |mut names| {
        names.extend([required, "x"]);
        names
    });
    let member = move |name: &'static str| {
        let text = prop_oneof![30 => usual(dataset, name).prop_map(str::to_owned), 1 => value(dataset)];
        let spelled = select(vec![name.to_owned(), camel_case(name)]);
        spelled.prop_flat_map(move |spelled| {
            let member = (prop::bool::weighted(0.9), text.clone());
            member.prop_map(move |(is_there, text)| is_there.then_some((spelled.clone(), text)))
        })
    };
    let style = select(&["", "", " "][..]);
    (names.prop_shuffle(), style).prop_flat_map(move |(names, space)| {
        let record = names.into_iter().map(member).collect::<Vec<_>>();
        let records = vec(record, 1..24);
        let separator = select(&["\n", "\n", "\n", "\r\n", ","][..]);
        (records, separator).prop_map(move |(records, separator)| {
            let records: Vec<_> = records
                .into_iter()
                .map(|members| object(&members.into_iter().flatten().collect::<Vec<_>>(), space))
                .collect();
            let text = records.join(separator);
            if separator == "," { format!("[{text}]") } else { text + separator }
        })
    })
}

/// Records in no order at all: the platform changes in nearly every one, and few values are not usual. They have the
/// first column of each type, and the partition's.
fn shuffled(dataset: &'static Dataset) -> impl Strategy<Value = String> {
    let mut types = Vec::new();
    let mut is_of_new_type = |column: &&Column| {
        let is_new = !types.contains(&column.column_type);
        types.push(column.column_type);
        is_new || dataset.partition_by == Some(column.name)
    };
    let mut names = vec![required(dataset), "x"];
    names.extend(dataset.properties().filter(|column| is_of_new_type(column)).map(|column| column.name));
    names.sort_unstable();
    names.dedup();
    let member = move |name: &'static str| {
        let text = prop_oneof![300 => usual(dataset, name).prop_map(str::to_owned), 1 => value(dataset)];
        (prop::bool::weighted(0.98), text).prop_map(move |(is_there, text)| is_there.then_some((name, text)))
    };
    let record = names.into_iter().map(member).collect::<Vec<_>>();
    vec(record, 40..80).prop_map(|records| {
        let members = |record: Vec<Option<_>>| object(&record.into_iter().flatten().collect::<Vec<_>>(), "");
        records.into_iter().map(members).collect::<Vec<_>>().join("\n") + "\n"
    })
}

/// A text of a dataset, whichever it is.
fn of_any<S: Strategy>(
    text: impl Fn(&'static Dataset) -> S,
) -> impl Strategy<Value = (&'static Dataset, S::Value)> {
    select(schema::DATASETS).prop_flat_map(move |dataset| (Just(dataset), text(dataset)))
}

/// Bytes with some of them changed.
fn mutated(dataset: &'static Dataset) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => select(b"{}[]\":,\\\n\r\t 0129.eE+-untfa/\x0c\x00\x1f\x7f\xff\xc3\xed\xa0\x80\xef\xbb\xbf".to_vec()),
        1 => any::<u8>(),
    ];
    let text = prop_oneof![part(dataset), alike(dataset)];
    (text, vec((any::<prop::sample::Index>(), 0..3_u8, byte), 0..5)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (at, change, byte) in changes {
            let at = at.index(bytes.len() + 1);
            match change {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        bytes
    })
}

/// A way to read, of the first dataset.
fn reading() -> impl Strategy<Value = Reading> {
    (prop_oneof![1..80_usize, Just(4096), Just(1 << 20)], any::<[bool; 3]>()).prop_map(
        |(buffer_bytes, [gzip, capture_extra_fields, plain_text])| Reading {
            dataset: schema::DATASETS[0].name,
            buffer_bytes,
            gzip,
            capture_extra_fields,
            plain_text,
        },
    )
}

/// A way to read that looks at a part at once.
fn whole(dataset: &Dataset) -> Reading {
    let dataset = dataset.name;
    Reading { dataset, buffer_bytes: 1 << 20, gzip: false, capture_extra_fields: true, plain_text: false }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn decoder_agrees_with_oracle((dataset, text) in of_any(part), reading in reading()) {
        check(text.as_bytes(), Reading { dataset: dataset.name, ..reading });
    }

    #[test]
    fn decoder_agrees_with_oracle_on_alike_records((dataset, text) in of_any(alike), reading in reading()) {
        check(text.as_bytes(), Reading { dataset: dataset.name, ..reading });
    }

    #[test]
    fn decoder_agrees_with_oracle_on_shuffled_records((dataset, text) in of_any(shuffled), reading in reading()) {
        check(text.as_bytes(), Reading { dataset: dataset.name, ..reading });
    }

    #[test]
    fn decoder_agrees_with_oracle_on_damaged_text((dataset, text) in of_any(mutated), reading in reading()) {
        check(&text, Reading { dataset: dataset.name, ..reading });
    }

    #[test]
    fn any_split_into_parts_gives_the_same_rows(
        (dataset, lines) in of_any(|dataset| vec((record(dataset), select(&["\n", "\r\n", " \n\n"][..])), 1..8)),
        splits in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        // Lines that are whole by themselves: one that is not may be completed by the next. Nor may one be
        // what an API answers with an error, which is damage if it is alone.
        let lines: Vec<String> = lines
            .into_iter()
            .filter(|(record, _)| !record.contains('\n') && is_whole(record, dataset))
            .filter(|(record, _)| decode_part(record.as_bytes(), whole(dataset)).is_ok())
            .map(|(record, end)| record + end)
            .collect();
        let mut splits: Vec<usize> = splits.iter().map(|at| at.index(lines.len() + 1)).collect();
        splits.extend([0, lines.len()]);
        splits.sort_unstable();
        let decode = |lines: &[String]| decode_part(&crate::oracle::agreement::gzip(lines.concat().as_bytes()), whole(dataset))
            .expect("a line never damages its part").0;
        let at_once = decode(&lines);
        let mut rows = Vec::new();
        let mut rejects = Vec::new();
        let (mut coerced, mut duplicate_names) = (0, 0);
        for ends in splits.windows(2) {
            let part = decode(&lines[ends[0]..ends[1]]);
            rows.extend(part.rows);
            rejects.extend(part.rejects.into_iter().map(|reject| (reject.field, reject.raw)));
            coerced += part.coerced;
            duplicate_names += part.duplicate_names;
        }
        sort_by_partition(&mut rows, dataset);
        prop_assert_eq!(rows, at_once.rows);
        prop_assert_eq!(rejects, at_once.rejects.into_iter().map(|reject| (reject.field, reject.raw)).collect::<Vec<_>>());
        prop_assert_eq!((coerced, duplicate_names), (at_once.coerced, at_once.duplicate_names));
    }
}

/// Whether `record` is one object to the decoder wherever it stands, and no page.
fn is_whole(record: &str, dataset: &Dataset) -> bool {
    let object = format!("{{}}\n{record}\n");
    let (decoded, _) = decode_part(object.as_bytes(), whole(dataset)).expect("a line never damages its part");
    let whole = record.trim_end_matches([' ', '\t', '\r', '\n']).len();
    decoded.records == 2
        && decoded.rejects.iter().skip(1).all(|reject| reject.raw.len() == whole)
        && !record.starts_with("{\"value\"")
        && !record.starts_with("{ \"value\"")
        && !record.contains("\"@odata")
}

#[test]
fn decoder_agrees_with_oracle_on_every_fixture() {
    let mut num_files = 0;
    let samples =
        schema::DATASETS.iter().map(|dataset| (format!("samples/{}", dataset.cli_name()), dataset.name));
    for (folder, dataset) in samples.chain([("corrupt".to_owned(), schema::DATASETS[0].name)]) {
        let folder = format!("{}/../fixtures/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "gz") {
                check_all(&std::fs::read(&path).unwrap(), dataset);
                num_files += 1;
            }
        }
    }
    assert!(num_files >= 7 + schema::DATASETS.len());
}

/// Checks every beginning of a text.
fn check_truncations(text: &str, dataset: &'static str) {
    for len in 0..=text.len() {
        check_all(&text.as_bytes()[..len], dataset);
    }
}

#[test]
fn decoder_agrees_with_oracle_on_every_truncation() {
    check_truncations(
        concat!(
            "\u{feff}{\"DeviceId\":\"a\",\"DiskPaths\":[\"C:\\\\x\\u00e9\",null]}\r\n",
            "{\n \"deviceId\": 1.50,\n \"x\": {\"y\": [true, -1e5]}\n}{\"DeviceId\":\"\\ud83d\\ude00\"} {\"a\"\n",
            "nonsense\n",
        ),
        "software_inventory",
    );
    check_truncations(
        "{\"@odata.context\":\"h\",\n\"value\":[{\"DeviceId\":\"a\"},\n{\"DeviceId\" 1},\n 5 ],\"x\":{\"y\":[1]}} ",
        "software_inventory",
    );
    check_truncations(
        concat!(
            r#"{"DeviceId":"a","IsActivated":"True","Permissions":[{"Id":"t]","IsRequired":true}]}"#,
            "\n",
            r#"{"DeviceId":"b","IsActivated":false,"Permissions":["t",null,{"Other":1}]}"#,
            "\n",
            r#"{"DeviceId":"b","IsActivated":false,"Permissions":[{"Id":"u"}]}"#,
            "\n",
        ),
        "browser_extensions",
    );
    check_truncations(
        concat!(
            r#"{"DeviceId":"a","DeviceGatheredInfo":"{\"a\":\"{\\\"b\\\":\\\"\\\"}\"}"}"#,
            "\n",
            r#"{"DeviceId":"a","DeviceGatheredInfo":{ "a": ["}"] }}"#,
            "\n",
            r#"{"DeviceId":"b","DeviceGatheredInfo":"\\\\"}"#,
            "\n",
        ),
        "information_gathering",
    );
}
