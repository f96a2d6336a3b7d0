use super::*;
use crate::connections::{Connections, Door, Why};
use crate::limits::Limits;
use tokio::io::DuplexStream;

fn pair(size: usize) -> (DuplexStream, Stream, Arc<Connection>) {
    let (client, server) = tokio::io::duplex(size);
    let connection =
        Connections::new(&Limits::default()).open(Door::Local, Ipv4Addr::LOCALHOST.into());
    let numbers = Arc::new(Numbers::new(1, 4096));
    let stream = Stream::new(Box::new(server), Arc::clone(&connection), numbers);
    (client, stream, connection)
}

async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// `PUBLISH a` with the payload `x`; id 7 with QoS 1 and 2.
fn publish(qos: u8) -> Vec<u8> {
    match qos {
        0 => vec![0x30, 5, 0, 1, b'a', 0, b'x'],
        _ => vec![0x30 | qos << 1, 7, 0, 1, b'a', 0, 7, 0, b'x'],
    }
}

/// The same as the library would send it on: with a number.
fn sent(stream: &Stream, qos: u8, number: u64) -> Vec<u8> {
    let packet = publish(qos);
    let Parsed::Done(header) = Header::parse(&packet) else {
        panic!()
    };
    let Parsed::Done(numbered) = stream.numbers.stamp.number(&packet, header, number) else {
        panic!()
    };
    [numbered.by, packet[numbered.replaced..].to_vec()].concat()
}

#[tokio::test]
async fn a_publish_is_numbered_however_it_arrives_and_the_rest_is_untouched() {
    let (mut client, mut stream, _) = pair(64);
    let ping = [0xc0, 0];
    let packet = publish(1);
    let feeder = tokio::spawn(async move {
        for byte in [&ping[..], &packet, &ping, &packet].concat() {
            client.write_all(&[byte]).await.unwrap();
        }
        client
    });
    let overhead = stream.numbers.stamp.overhead() - 2;
    for number in 0..2_u64 {
        assert_eq!(read_exactly(&mut stream, 2).await, ping);
        let inside = read_exactly(&mut stream, publish(1).len() + overhead).await;
        assert_eq!(inside[0], 0x32);
        let Parsed::Done(header) = Header::parse(&inside) else {
            panic!()
        };
        let copy = stream.numbers.stamp.read(&inside, header).unwrap();
        assert_eq!(copy.bytes, publish(1));
        // Numbers are drawn at each look at an incomplete packet; they only have to differ.
        assert!(copy.number.unwrap() >= number);
    }
    drop(feeder.await.unwrap());
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn the_second_copy_is_withheld_and_acknowledged_in_the_clients_name() {
    for (qos, answer) in [(0, None), (1, Some(0x40)), (2, Some(0x50))] {
        let (mut client, mut stream, _) = pair(1024);
        let copy = sent(&stream, qos, 5);
        let next = sent(&stream, qos, 6);
        for packet in [&copy, &copy, &next] {
            stream.write_all(packet).await.unwrap();
            stream.flush().await.unwrap();
        }
        let length = publish(qos).len();
        assert_eq!(
            read_exactly(&mut client, 2 * length).await,
            [publish(qos), publish(qos)].concat()
        );
        if let Some(first) = answer {
            assert_eq!(read_exactly(&mut stream, 4).await, [first, 2, 0, 7]);
        }
        if qos == 2 {
            stream.write_all(&[0x62, 2, 0, 7]).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(read_exactly(&mut stream, 4).await, [0x70, 2, 0, 7]);
        }
        drop(stream);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "nothing else");
    }
}

#[tokio::test]
async fn a_better_copy_is_no_duplicate() {
    let (mut client, mut stream, _) = pair(1024);
    for qos in [0, 1, 0] {
        let packet = sent(&stream, qos, 5);
        stream.write_all(&packet).await.unwrap();
        stream.flush().await.unwrap();
    }
    drop(stream);
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [publish(0), publish(1)].concat());
}

#[tokio::test]
async fn an_answer_waits_for_the_end_of_the_clients_packet() {
    let (mut client, mut stream, _) = pair(1024);
    let subscribe = [0x82, 6, 0, 1, 0, 0, 0, 0];
    client.write_all(&subscribe[..3]).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 3).await, subscribe[..3]);
    let copy = sent(&stream, 1, 5);
    stream.write_all(&copy).await.unwrap();
    stream.write_all(&copy).await.unwrap();
    client.write_all(&subscribe[3..]).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 5).await, subscribe[3..]);
    assert_eq!(read_exactly(&mut stream, 4).await, [0x40, 2, 0, 7]);
}

#[tokio::test]
async fn goodbyes_and_refusals_close_and_arrive_before_the_end() {
    for (packet, why, expected) in [
        (vec![0xe0, 2, 0x8b, 0], None, vec![0xe0, 2, 0x8b, 0]),
        (
            vec![0xe0, 2, 0x8b, 0],
            Some(Why::Administrative),
            vec![0xe0, 2, 0x98, 0],
        ),
        (
            vec![0xe0, 2, 0x8e, 0],
            Some(Why::Administrative),
            vec![0xe0, 2, 0x8e, 0],
        ),
        (vec![0x20, 3, 0, 0x86, 0], None, vec![0x20, 3, 0, 0x86, 0]),
    ] {
        let (mut client, mut stream, connection) = pair(2);
        if let Some(why) = why {
            connection.ask_to_leave(why);
        }
        let writer = tokio::spawn(async move {
            stream.write_all(&packet).await.unwrap();
            stream.flush().await.unwrap();
            assert!(stream.write_all(&[0xc0, 0]).await.is_err());
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        });
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, expected);
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_cut_wakes_a_stalled_writer_and_reader() {
    let (_client, mut stream, connection) = pair(1);
    let writer = tokio::spawn(async move {
        stream.write_all(&publish(0)).await.unwrap();
        let written = stream.flush().await;
        let read = stream.read(&mut [0; 8]).await;
        (written.is_err(), read.is_err())
    });
    tokio::task::yield_now().await;
    connection.cut.cut();
    assert_eq!(writer.await.unwrap(), (true, true));
}

#[tokio::test]
async fn a_stall_is_noted_wherever_it_is() {
    for is_gathering in [false, true] {
        let (mut client, server) = tokio::io::duplex(16);
        let limits = Limits::default();
        let connection = Connections::new(&limits).open(Door::Local, Ipv4Addr::LOCALHOST.into());
        let raw: Box<dyn Raw> = match is_gathering {
            false => Box::new(server),
            true => Box::new(tokio::io::BufWriter::with_capacity(1024, server)),
        };
        let numbers = Arc::new(Numbers::new(1, 4096));
        let mut stream = Stream::new(raw, Arc::clone(&connection), numbers);
        let writer = tokio::spawn(async move {
            stream.write_all(&[0xd0; 100]).await.unwrap();
            stream.flush().await.unwrap();
            stream
        });
        while !connection.backlog.is_behind() {
            assert!(!writer.is_finished(), "{is_gathering}");
            tokio::task::yield_now().await;
        }
        read_exactly(&mut client, 100).await;
        let _stream = writer.await.unwrap();
        assert!(!connection.backlog.is_behind(), "{is_gathering}");
    }
}
