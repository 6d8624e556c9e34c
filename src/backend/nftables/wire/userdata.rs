//! What nft keeps beside an object and the kernel does not look at: rows of type, length and value, a byte each for
//! the first two (libnftnl, udata.h).

/// NFTNL_UDATA_TABLE_COMMENT.
pub const TABLE_COMMENT: u8 = 0;
/// Our own: the format of the table. nft passes by what it does not know, and has no number above 2 (its version).
const TABLE_FORMAT: u8 = 128;
/// NFTNL_UDATA_CHAIN_COMMENT.
pub const CHAIN_COMMENT: u8 = 0;
/// NFTNL_UDATA_RULE_COMMENT.
pub const RULE_COMMENT: u8 = 0;
/// NFTNL_UDATA_SET_KEYBYTEORDER.
const SET_KEY_BYTE_ORDER: u8 = 0;
/// NFTNL_UDATA_SET_COMMENT.
const SET_COMMENT: u8 = 7;
/// NFTNL_UDATA_SET_DATABYTEORDER.
const SET_DATA_BYTE_ORDER: u8 = 1;
/// BYTEORDER_BIG_ENDIAN of nftables.
const BIG_ENDIAN: u32 = 2;

/// A comment of at most 128 bytes, as nft stores it: with a NUL at its end.
pub fn comment(kind: u8, comment: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(comment.len() + 3);
    push(kind, &[comment.as_bytes(), &[0]].concat(), &mut out);
    out
}

/// What is stored beside our table.
pub fn table(text: &str, format: u32) -> Vec<u8> {
    let mut out = comment(TABLE_COMMENT, text);
    push(TABLE_FORMAT, &format.to_be_bytes(), &mut out);
    out
}

/// The format in the user data of a table.
pub fn read_format(data: &[u8]) -> Option<u32> {
    find(TABLE_FORMAT, data)?.try_into().ok().map(u32::from_be_bytes)
}

/// What nft stores beside a set or a map of addresses with a comment.
pub fn set(text: &str, is_map: bool) -> Vec<u8> {
    let mut out = Vec::new();
    push(SET_KEY_BYTE_ORDER, &BIG_ENDIAN.to_ne_bytes(), &mut out);
    if is_map {
        push(SET_DATA_BYTE_ORDER, &BIG_ENDIAN.to_ne_bytes(), &mut out);
    }
    out.extend(comment(SET_COMMENT, text));
    out
}

fn push(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    // What does not fit into the length byte is cut; our own texts are shorter.
    let value = &value[..value.len().min(255)];
    out.extend_from_slice(&[kind, value.len() as u8]);
    out.extend_from_slice(value);
}

/// The comment of a kind in the user data of an object.
pub fn read_comment(kind: u8, data: &[u8]) -> Option<String> {
    let value = find(kind, data)?;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    Some(String::from_utf8_lossy(&value[..end]).into_owned())
}

fn find(kind: u8, mut data: &[u8]) -> Option<&[u8]> {
    while let [found, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *found == kind {
            return Some(value);
        }
        data = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comment_is_read_back() {
        assert_eq!(read_comment(RULE_COMMENT, &comment(RULE_COMMENT, "keep source: x")), Some("keep source: x".into()));
        assert_eq!(read_comment(SET_COMMENT, &set("nonMasqueradeCIDRs", false)), Some("nonMasqueradeCIDRs".into()));
        assert_eq!(read_comment(RULE_COMMENT, &[]), None);
    }

    #[test]
    fn the_format_stands_beside_the_comment_and_either_is_read_alone() {
        let both = table("ours", 7);
        assert_eq!((read_comment(TABLE_COMMENT, &both), read_format(&both)), (Some("ours".into()), Some(7)));
        assert_eq!(read_format(&comment(TABLE_COMMENT, "ours")), None);
        assert_eq!(read_format(&[TABLE_FORMAT, 2, 0, 7]), None, "of another length");
    }

    proptest! {
        #[test]
        fn random_user_data_ends_without_a_panic(data: Vec<u8>, kind: u8) {
            let _ = (read_comment(kind, &data), read_format(&data));
        }
    }
}
