//! Columns of rows as bytes and back: what waits on disk until a row group is large enough.
//!
//! Read by the run that wrote them alone, so it has no version, and bytes that cannot be read are a bug.

use super::Columns;
use super::spill_format::{Bytes, put};

impl Columns {
    /// Appends all rows to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        put(self.num_rows(), out);
        for column in self.properties.iter().flatten() {
            column.write_to(out);
        }
        self.extra_fields.write_to(out);
    }

    /// Reads rows that were written by [`Self::write_to`] into columns without rows.
    ///
    /// # Panics
    ///
    /// If the bytes are not those of columns with the same field map, or there are rows.
    pub fn read_from(&mut self, bytes: &[u8]) {
        assert_eq!(self.num_rows(), 0, "columns begin with what is read");
        let mut bytes = Bytes(bytes);
        self.num_rows = bytes.number();
        for column in self.properties.iter_mut().flatten() {
            column.read_from(&mut bytes);
        }
        self.extra_fields.read_from(&mut bytes);
        assert!(bytes.0.is_empty(), "all that was written is read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::column::plain;
    use crate::decode::field_map::FieldMap;
    use crate::decode::reject::Reject;
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_schema::DataType;

    use crate::decode::{PartDecoder, RowSink};

    struct OnePartition(Columns);

    impl RowSink for OnePartition {
        fn columns(&mut self, _: Option<&str>) -> &mut Columns {
            &mut self.0
        }

        fn reject(&mut self, reject: Reject) {
            panic!("{reject:?}");
        }
    }

    fn decode(text: &str, field_map: &Arc<FieldMap>) -> Columns {
        let mut sink = OnePartition(Columns::new(field_map));
        let mut decoder = PartDecoder::try_new(text.as_bytes(), Arc::clone(field_map)).unwrap();
        while decoder.decode_some(&mut sink).unwrap() {}
        sink.0
    }

    /// Writes rows and reads them back.
    fn written_and_read(columns: &Columns, field_map: &FieldMap) -> Columns {
        let mut bytes = Vec::new();
        columns.write_to(&mut bytes);
        let mut again = Columns::new(field_map);
        again.read_from(&bytes);
        again
    }

    #[test]
    fn columns_come_back_from_their_bytes() {
        let field_map = Arc::new(FieldMap::new(schema::DATASETS[0], true));
        let text = concat!(
            r#"{"DeviceId":"a","SoftwareName":"x\u00e9\\","DiskPaths":["p",null,"q"],"NumberOfWeaknesses":-3}"#,
            "\n",
            r#"{"DeviceId":"b","DiskPaths":[],"Unknown":[1,2]}"#,
            "\n",
            r#"{"DeviceId":"c","DiskPaths":["q"],"EndOfSupportDate":"2020-12-30","SoftwareName":"","#,
            r#""SoftwareFirstSeenTimestamp":"1960-01-01 00:00:01"}"#,
            "\n",
            r#"{"DeviceId":"a"}"#,
        );
        let mut columns = decode(text, &field_map);
        let mut again = written_and_read(&columns, &field_map);
        let order = [3, 1, 0, 2];
        let (expected, found) = (columns.finish(&order), again.finish(&order));
        assert_eq!(found.num_rows, 4);
        assert_eq!(found.properties, expected.properties);
        assert_eq!(&found.extra_fields, &expected.extra_fields);
    }

    #[test]
    fn every_type_comes_back_from_its_bytes() {
        let field_map = Arc::new(FieldMap::new(&crate::tests::EVERY_TYPE, false));
        let text = concat!(
            r#"{"Id":"a","Long":-5000000000,"Float":-0.5,"Boolean":true,"Json":[1],"Parts":[{"Name":"n"},null]}"#,
            "\n",
            r#"{"Id":"b","Float":1e300,"Boolean":false,"Parts":[]}"#,
            "\n",
            r#"{"Id":"c","Long":7,"Parts":[{"Size":1,"IsRequired":true}]}"#,
        );
        let mut columns = decode(text, &field_map);
        let mut again = written_and_read(&columns, &field_map);
        again.append(decode(text, &field_map));
        columns.append(decode(text, &field_map));
        let order = [5, 1, 0, 2, 4, 3];
        assert_eq!(again.finish(&order).properties, columns.finish(&order).properties);
    }

    /// Enough distinct values to end the search for repeated ones.
    #[test]
    fn distinct_json_comes_back_from_its_bytes() {
        let field_map = Arc::new(FieldMap::new(&crate::tests::EVERY_TYPE, false));
        let long = "x".repeat(400);
        let record = |row| {
            format!(
                r#"{{"Id":"a","Json":"{{\"{long}\":{row}}}","Parts":[{{"Name":"{long}","Size":{row}}}]}}"#
            )
        };
        let text = (0..3000).map(record).collect::<Vec<_>>().join("\n");
        let few = r#"{"Id":"a","Json":"{\"n\":1}"}"#;
        for (first, other) in [(&*text, few), (few, &*text), (&*text, &*text), (few, few)] {
            let mut columns = decode(first, &field_map);
            let mut again = written_and_read(&columns, &field_map);
            again.append(decode(other, &field_map));
            columns.append(decode(other, &field_map));
            let mut order: Vec<u32> = (0..).take(columns.num_rows()).collect();
            order.reverse();
            let (expected, found) = (columns.finish(&order), again.finish(&order));
            assert_eq!(found.properties, expected.properties);
        }
    }

    /// Enough distinct texts to end the search for repeated ones.
    #[test]
    fn distinct_texts_come_back_from_their_bytes() {
        let field_map = Arc::new(FieldMap::new(&crate::tests::EVERY_TYPE, false));
        let records = |rows: std::ops::Range<u32>| {
            rows.map(|row| format!(r#"{{"Id":"{row}\\\u00e9"}}"#)).collect::<Vec<_>>().join("\n")
        };
        let (many, few) = (records(0..9000), records(8999..9002));
        for (first, other) in [(&many, &few), (&few, &many), (&many, &many)] {
            let mut columns = decode(first, &field_map);
            let mut again = written_and_read(&columns, &field_map);
            again.append(decode(other, &field_map));
            columns.append(decode(other, &field_map));
            assert_eq!(columns.num_rows(), first.lines().count() + other.lines().count());
            let order: Vec<u32> = (0..).take(columns.num_rows()).collect();
            let (expected, found) = (columns.finish(&order), again.finish(&order));
            assert_eq!(found.properties, expected.properties);
            let ids = plain(expected.properties[0].clone().unwrap(), &DataType::Utf8);
            let ids = ids.as_string::<i32>();
            assert!(ids.value(0).ends_with("\\\u{e9}"), "{}", ids.value(0));
        }
    }

    #[test]
    fn rows_that_are_encoded_come_back_from_their_bytes() {
        let field_map = Arc::new(FieldMap::new(&crate::tests::EVERY_TYPE, false));
        let property = field_map.properties().iter().position(|column| column.name == "Json").unwrap();
        let mut columns = decode(r#"{"Id":"a","Json":[1]} {"Id":"b"} {"Id":"c","Json":"x"}"#, &field_map);
        let mut encoder = crate::encode::EarlyEncoder::new();
        columns.encode_early(property, |texts| {
            assert_eq!(texts, [Some(&b"[1]"[..]), None, Some(b"x")]);
            encoder.encode(texts)
        });
        columns.append(decode(r#"{"Id":"d","Json":[2]}"#, &field_map));
        let mut again = written_and_read(&columns, &field_map);
        again.encode_early(property, |texts| {
            assert_eq!(texts, [Some(&b"[2]"[..])]);
            Vec::new()
        });
        let [page] = &again.take_early_pages(property)[..] else { panic!("one page") };
        assert_eq!((page.num_rows, page.num_nulls, page.num_text_bytes), (3, 1, 4));
        assert_eq!(page.content, columns.take_early_pages(property)[0].content);
    }

    #[test]
    fn no_rows_come_back_as_none() {
        let field_map = FieldMap::new(schema::DATASETS[0], false);
        let again = written_and_read(&Columns::new(&field_map), &field_map);
        assert_eq!(again.num_rows(), 0);
    }
}
