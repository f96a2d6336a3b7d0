//! A core in a temporary home, and a client that speaks packets, for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::packet::puback::PubAckPacket;
use mqtt5::packet::publish::PublishPacket;
use mqtt5::packet::subscribe::SubscribePacket;
use mqtt5::packet::unsubscribe::UnsubscribePacket;
use mqtt5::transport::packet_io::encode_packet_to_buffer;
use mqtt5::{FixedHeader, Packet, QoS};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;

use crate::config::Config;
use crate::core::{Core, Settings};
use crate::folders::Folders;
use crate::packet::{Header, Parsed};
use crate::stream::Raw;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A home of a core.
pub struct Home {
    _folder: TempDir,
    pub settings: Settings,
}

impl Home {
    pub fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            port: 0,
            ws_port: None,
            abstract_socket: None,
            announced: false,
            ..Config::default()
        };
        Home {
            settings: Settings::new(Folders::in_home(&folder.path().join("hub")), config),
            _folder: folder,
        }
    }

    pub async fn start(&self) -> Core {
        Core::start(self.settings.clone()).await.unwrap()
    }

    pub fn cert(&self, name: &str) -> PathBuf {
        self.settings.folders.certs.join(name)
    }

    pub fn token(&self, id: &str) -> String {
        std::fs::read_to_string(self.cert(&format!("{id}.token"))).unwrap()
    }

    /// A connection of `login` with the token of its file.
    pub async fn client(&self, core: &Core, login: &str) -> Client {
        Client::connect(core, login, &format!("{login}-1"), &self.token(login))
            .await
            .unwrap()
    }

    /// TLS to the core, with a client certificate or without.
    pub async fn tls(
        &self,
        core: &Core,
        own: Option<(String, String)>,
    ) -> std::io::Result<Box<dyn Raw>> {
        Ok(Box::new(self.tls_on(core.port(), own).await?))
    }

    /// A secure websocket to the core, as a browser opens it for a page of `origin`, or as a program does.
    pub async fn web(
        &self,
        core: &Core,
        own: Option<(String, String)>,
        origin: Option<&str>,
    ) -> Box<dyn Raw> {
        let frames = self.web_frames(core, own, origin).await;
        Box::new(crate::websocket::WebSocket::new(frames))
    }

    /// The same, frame by frame.
    pub async fn web_frames(
        &self,
        core: &Core,
        own: Option<(String, String)>,
        origin: Option<&str>,
    ) -> WebSocketStream<TlsStream<TcpStream>> {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;
        let port = core.ws_port().unwrap();
        let stream = self.tls_on(port, own).await.unwrap();
        let mut request = format!("wss://localhost:{port}/mqtt")
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "mqtt".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().unwrap());
        }
        let (frames, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        frames
    }

    /// TLS to a port of the core.
    pub async fn tls_on(
        &self,
        port: u16,
        own: Option<(String, String)>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let ca = std::fs::read_to_string(self.cert("caCert.pem")).unwrap();
        self.tls_by(port, &ca, own).await
    }

    /// TLS to a port of a server of that CA.
    pub async fn tls_by(
        &self,
        port: u16,
        ca: &str,
        own: Option<(String, String)>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some((cert, key)) => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        connector.connect(name, stream).await
    }
}

/// A message as its receiver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub content_type: String,
}

/// A client that speaks packets.
pub struct Client {
    stream: Box<dyn Raw>,
    mqtt_id: String,
    login: String,
    packet_id: u16,
    /// Messages that came while something else was waited for.
    waiting: std::collections::VecDeque<PublishPacket>,
}

impl Client {
    pub async fn raw(core: &Core) -> UnixStream {
        UnixStream::connect(core.socket()).await.unwrap()
    }

    /// The reason code when it is refused.
    pub async fn connect(
        core: &Core,
        login: &str,
        mqtt_id: &str,
        password: &str,
    ) -> Result<Client, u8> {
        let stream = Box::new(Client::raw(core).await);
        Client::over(stream, login, mqtt_id, password).await
    }

    pub async fn over(
        stream: Box<dyn Raw>,
        login: &str,
        mqtt_id: &str,
        password: &str,
    ) -> Result<Client, u8> {
        let mut packet = connect_packet(mqtt_id);
        packet.username = Some(login.to_owned());
        packet.password = Some(password.as_bytes().to_vec()).filter(|p| !p.is_empty());
        Client::with(stream, packet).await
    }

    pub async fn with(stream: Box<dyn Raw>, packet: ConnectPacket) -> Result<Client, u8> {
        let mut client = Client {
            stream,
            mqtt_id: packet.client_id.clone(),
            login: packet.username.clone().unwrap_or_default(),
            packet_id: 0,
            waiting: std::collections::VecDeque::new(),
        };
        client.send(Packet::Connect(Box::new(packet))).await;
        match client.receive().await {
            Some(Packet::ConnAck(ack)) => match ack.reason_code as u8 {
                0 => Ok(client),
                code => {
                    assert!(client.receive().await.is_none(), "refused and then closed");
                    Err(code)
                }
            },
            other => panic!("{other:?}"),
        }
    }

    pub async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        encode_packet_to_buffer(&packet, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet; none at the end.
    pub async fn receive(&mut self) -> Option<Packet> {
        tokio::time::timeout(PATIENCE, self.receive_now())
            .await
            .unwrap()
    }

    async fn receive_now(&mut self) -> Option<Packet> {
        let mut bytes = Vec::new();
        loop {
            match Header::parse(&bytes) {
                Parsed::Done(header) if bytes.len() == header.header + header.body => break,
                Parsed::Done(header) => {
                    let from = bytes.len();
                    bytes.resize(header.header + header.body, 0);
                    self.stream.read_exact(&mut bytes[from..]).await.ok()?;
                }
                Parsed::More => bytes.push(self.stream.read_u8().await.ok()?),
                Parsed::Bad => panic!("{bytes:?}"),
            }
        }
        let mut bytes = bytes::Bytes::from(bytes);
        let header = FixedHeader::decode(&mut bytes).unwrap();
        let packet =
            Packet::decode_from_body_with_version(header.packet_type, &header, &mut bytes, 5);
        Some(packet.unwrap())
    }

    /// Answers messages and keeps them until something else comes.
    async fn answer(&mut self) -> Option<Packet> {
        loop {
            match self.receive().await {
                Some(Packet::Publish(message)) => {
                    if let (QoS::AtLeastOnce, Some(id)) = (message.qos, message.packet_id) {
                        self.send(Packet::PubAck(PubAckPacket::new(id))).await;
                    }
                    self.waiting.push_back(message);
                }
                other => return other,
            }
        }
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id += 1;
        self.packet_id
    }

    /// The code of the SUBACK.
    pub async fn subscribe(&mut self, filter: &str) -> u8 {
        let id = self.next_id();
        let packet = SubscribePacket::new(id).add_filter(filter, QoS::AtLeastOnce);
        self.send(Packet::Subscribe(packet)).await;
        match self.answer().await {
            Some(Packet::SubAck(ack)) => ack.reason_codes[0] as u8,
            other => panic!("{other:?}"),
        }
    }

    pub async fn unsubscribe(&mut self, filter: &str) {
        let id = self.next_id();
        let packet = UnsubscribePacket::new(id).add_filter(filter);
        self.send(Packet::Unsubscribe(packet)).await;
        assert!(matches!(self.answer().await, Some(Packet::UnsubAck(_))));
    }

    /// The code of the PUBACK.
    pub async fn publish(&mut self, topic: &str, payload: &str) -> u8 {
        let packet = PublishPacket::new(topic, payload.as_bytes().to_vec(), QoS::AtLeastOnce);
        self.publish_packet(packet).await
    }

    pub async fn publish_packet(&mut self, packet: PublishPacket) -> u8 {
        let id = self.next_id();
        self.send(Packet::Publish(packet.with_packet_id(id))).await;
        match self.answer().await {
            Some(Packet::PubAck(ack)) => {
                assert_eq!(ack.packet_id, id);
                ack.reason_code as u8
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        let packet = match self.waiting.pop_front() {
            Some(packet) => packet,
            None => match self.receive().await {
                Some(Packet::Publish(packet)) => {
                    if let (QoS::AtLeastOnce, Some(id)) = (packet.qos, packet.packet_id) {
                        self.send(Packet::PubAck(PubAckPacket::new(id))).await;
                    }
                    packet
                }
                other => panic!("{other:?}"),
            },
        };
        Message {
            topic: packet.topic_name,
            payload: String::from_utf8(packet.payload.to_vec()).unwrap(),
            content_type: packet.properties.get_content_type().unwrap_or_default(),
        }
    }

    /// All messages that have come, once the core has answered a ping.
    pub async fn messages(&mut self) -> Vec<String> {
        self.send(Packet::PingReq).await;
        assert!(matches!(self.answer().await, Some(Packet::PingResp)));
        self.waiting.drain(..).map(|m| m.topic_name).collect()
    }

    /// Asks a service; the content type and the payload of the reply.
    pub async fn request(&mut self, address: &str, payload: &str) -> (String, String) {
        let inbox = format!("_INBOX/{}", self.mqtt_id);
        assert_eq!(self.subscribe(&inbox).await, 1);
        let topic = format!("{address}/{}", self.login);
        let packet = PublishPacket::new(topic, payload.as_bytes().to_vec(), QoS::AtLeastOnce)
            .with_content_type("json".to_owned())
            .with_response_topic(inbox.clone())
            .with_correlation_data(b"17".to_vec());
        assert_eq!(self.publish_packet(packet).await, 0);
        loop {
            let message = self.message().await;
            if message.topic == inbox {
                return (message.content_type, message.payload);
            }
        }
    }

    /// The reply's JSON, which must be no error.
    pub async fn ask(&mut self, address: &str, payload: &str) -> serde_json::Value {
        let (content_type, payload) = self.request(address, payload).await;
        assert_eq!(content_type, "json", "{payload}");
        serde_json::from_str(&payload).unwrap_or_default()
    }

    /// The error's text.
    pub async fn fail(&mut self, address: &str, payload: &str) -> String {
        let (content_type, payload) = self.request(address, payload).await;
        assert_eq!(content_type, "error", "{payload}");
        payload
    }
}

/// A CONNECT of that id: clean, keep-alive 60 s, nobody yet.
pub fn connect_packet(mqtt_id: &str) -> ConnectPacket {
    ConnectPacket::new(mqtt5::ConnectOptions::new(mqtt_id).protocol_options)
}
