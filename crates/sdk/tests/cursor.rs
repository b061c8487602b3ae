//! The text form of cursors.

use soma_sdk::api::cursor::Cursor;

#[test]
fn cursors_have_one_text() {
    let cursor = Cursor { height: u64::MAX, index: 3 };
    assert_eq!(cursor.to_string().parse(), Ok(cursor));
    for bad in ["", "1", "-", "1-", "-1", "1-2-3", "a-1", "18446744073709551616-0", "1-4294967296"]
    {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
    assert!(Cursor { height: 2, index: 0 } > Cursor { height: 1, index: 9 });
}
