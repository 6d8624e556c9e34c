//! The two packets that open an association of SCTP (RFC 9260), for kernels that have no sockets for it.

/// Chunk types.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// The State Cookie, a parameter that every INIT ACK has, with four bytes in it.
const COOKIE: [u8; 8] = [0, 7, 0, 8, b'c', b'o', b'o', b'k'];

/// What opens an association. `number` is its tag and, as the number of its first chunk, at its end.
pub fn init(from: u16, to: u16, number: [u8; 4]) -> Vec<u8> {
    packet([from, to], [0; 4], INIT, number, &[])
}

/// The answer to a packet that opens one.
pub fn init_ack(init: &[u8]) -> Vec<u8> {
    let port = |at: usize| u16::from_be_bytes([init[at], init[at + 1]]);
    let tag = init[16..20].try_into().expect("a tag");
    packet([port(2), port(0)], tag, INIT_ACK, *b"back", &COOKIE)
}

/// True when it is an INIT ACK for the packet that opened an association with this number.
pub fn answers(packet: &[u8], number: [u8; 4]) -> bool {
    is_whole(packet) && packet[4..8] == number && packet[12] == INIT_ACK
}

/// True when its checksum is right.
pub fn is_whole(packet: &[u8]) -> bool {
    packet.len() >= 32 && packet[8..12] == checksum(packet)
}

fn packet([from, to]: [u16; 2], tag: [u8; 4], kind: u8, number: [u8; 4], parameters: &[u8]) -> Vec<u8> {
    let length = 20 + parameters.len() as u8;
    let (window, streams) = ([0, 1, 0, 0], [0, 1, 0, 1]);
    let header = [&from.to_be_bytes()[..], &to.to_be_bytes(), &tag, &[0; 4]];
    let chunk = [&[kind, 0, 0, length][..], &number, &window, &streams, &number, parameters];
    let mut packet = [header.concat(), chunk.concat()].concat();
    let checksum = checksum(&packet);
    packet[8..12].copy_from_slice(&checksum);
    packet
}

/// CRC32c of a packet whose own checksum counts as 0, in the order in which it is sent: RFC 9260, appendix A.
fn checksum(packet: &[u8]) -> [u8; 4] {
    let bytes = packet.iter().enumerate().map(|(at, byte)| if (8..12).contains(&at) { 0 } else { *byte });
    let crc = bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    });
    (!crc).to_le_bytes()
}
