//! What nft keeps beside an object and the kernel does not look at: rows of type, length and value, a byte each for
//! the first two (libnftnl, udata.h).

/// NFTNL_UDATA_TABLE_COMMENT.
pub const TABLE_COMMENT: u8 = 0;
/// NFTNL_UDATA_CHAIN_COMMENT.
pub const CHAIN_COMMENT: u8 = 0;
/// NFTNL_UDATA_RULE_COMMENT.
pub const RULE_COMMENT: u8 = 0;
/// NFTNL_UDATA_SET_KEYBYTEORDER.
const SET_KEY_BYTE_ORDER: u8 = 0;
/// NFTNL_UDATA_SET_COMMENT.
const SET_COMMENT: u8 = 7;
/// BYTEORDER_BIG_ENDIAN of nftables.
const BIG_ENDIAN: u32 = 2;

/// A comment of at most 128 bytes, as nft stores it: with a NUL at its end.
pub fn comment(kind: u8, comment: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(comment.len() + 3);
    push(kind, &[comment.as_bytes(), &[0]].concat(), &mut out);
    out
}

/// What nft stores beside a set of addresses with a comment.
pub fn set(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push(SET_KEY_BYTE_ORDER, &BIG_ENDIAN.to_ne_bytes(), &mut out);
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
pub fn read_comment(kind: u8, mut data: &[u8]) -> Option<String> {
    while let [found, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *found == kind {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            return Some(String::from_utf8_lossy(&value[..end]).into_owned());
        }
        data = &rest[usize::from(*length)..];
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
        assert_eq!(read_comment(SET_COMMENT, &set("nonMasqueradeCIDRs")), Some("nonMasqueradeCIDRs".into()));
        assert_eq!(read_comment(RULE_COMMENT, &[]), None);
    }

    proptest! {
        #[test]
        fn random_user_data_ends_without_a_panic(data: Vec<u8>, kind: u8) {
            let _ = read_comment(kind, &data);
        }
    }
}
