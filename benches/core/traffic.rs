//! Requests and messages through a broker.

use crate::brokers::{ANSWERER, ASKER, Broker, Brokers, Maker, Transport};
use crate::client::{Client, Login};
use crate::clock;
use crate::placing::{Held, Processors};
use crate::report::{Goal, Pairs, Report, Row, median, quantile};
use crate::usage::Threads;
use crate::wire::{Message, Packet};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::runtime::Builder;

const PAYLOAD: [u8; 256] = [b'x'; 256];
/// Requests that are in flight at once.
const WINDOWS: [usize; 2] = [1, 32];
/// Messages of the one-way flood that wait for their acknowledgement.
const FLOOD_WINDOW: usize = 256;

/// How much of it.
#[derive(Clone, Copy)]
pub struct Amounts {
    /// Turns of each broker; one more is not counted.
    pub rounds: usize,
    /// Requests a turn.
    pub calls: usize,
    /// Messages a turn.
    pub messages: usize,
}

/// Who asks and who answers on one broker.
struct Talk {
    asker: Client,
    answerer: Client,
    pid: i32,
}

impl Talk {
    async fn begin(
        brokers: &Brokers,
        maker: Maker,
        pid: i32,
        transport: Transport,
    ) -> Result<Talk> {
        let mut clients = Vec::new();
        for (name, filters) in [
            (ASKER, ["_INBOX/admin", "event/launcher/+/+/+"]),
            (ANSWERER, ["_INBOX/launcher", "rpc/launcher/+/+/+"]),
        ] {
            let stream = brokers.reach(maker, transport, name).await?;
            let token = brokers.token(name)?;
            let login = Login {
                name,
                mqtt_id: name,
                password: (transport != Transport::Tls).then_some(&token),
            };
            let mut client = Client::log_in(stream, login).await?;
            for filter in filters {
                client.subscribe(filter).await?;
            }
            clients.push(client);
        }
        let (answerer, asker) = (clients.pop(), clients.pop());
        Ok(Talk {
            asker: asker.context("nobody asks")?,
            answerer: answerer.context("nobody answers")?,
            pid,
        })
    }

    /// Microseconds of each call, and of the broker's processor a call.
    async fn calls(&mut self, calls: usize, window: usize) -> Result<(Vec<f64>, f64)> {
        let before = Threads::of(self.pid)?;
        let times = tokio::select! {
            biased;
            times = ask(&mut self.asker, calls, window) => times?,
            answered = answer(&mut self.answerer) => return Err(answered),
        };
        let used = Threads::of(self.pid)?.since(&before);
        let processor = used.processor * 1e6;
        Ok((times, processor / number(calls)))
    }

    /// Messages a second.
    async fn flood(&mut self, messages: usize) -> Result<f64> {
        let begun = clock::now()?;
        tokio::try_join!(
            send(&mut self.answerer, messages),
            receive(&mut self.asker, messages)
        )?;
        Ok(number(messages) / clock::ms(begun, clock::now()?) * 1000.0)
    }
}

async fn ask(client: &mut Client, calls: usize, window: usize) -> Result<Vec<f64>> {
    let mut begun = Vec::with_capacity(calls);
    let mut times = Vec::with_capacity(calls);
    while times.len() < calls {
        while begun.len() < calls && begun.len() - times.len() < window {
            let correlation = format!("{:032x}", begun.len());
            begun.push(clock::now()?);
            client.publish(Message {
                topic: "rpc/launcher/bench/echo/admin",
                response_topic: Some("_INBOX/admin"),
                correlation: correlation.as_bytes(),
                payload: &PAYLOAD,
            });
        }
        if let Packet::Publish { correlation, .. } = client.next().await? {
            let number = usize::from_str_radix(str::from_utf8(&correlation)?, 16)?;
            let begun = begun.get(number).context("a reply to nothing")?;
            times.push(clock::ms(*begun, clock::now()?) * 1000.0);
        }
    }
    client.flush().await?;
    Ok(times)
}

/// Answers every request with as many bytes; why it ended.
async fn answer(client: &mut Client) -> anyhow::Error {
    loop {
        match client.next().await {
            Ok(Packet::Publish {
                response_topic: Some(topic),
                correlation,
                ..
            }) => client.publish(Message {
                topic: &topic,
                response_topic: None,
                correlation: &correlation,
                payload: &PAYLOAD,
            }),
            Ok(_) => {}
            Err(error) => return error.context("the client that answers"),
        }
    }
}

async fn send(client: &mut Client, messages: usize) -> Result<()> {
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < messages {
        while sent < messages && sent - acknowledged < FLOOD_WINDOW {
            client.publish(Message {
                topic: "event/launcher/thing/value/launcher",
                response_topic: None,
                correlation: b"",
                payload: &PAYLOAD,
            });
            sent += 1;
        }
        if let Packet::PubAck = client.next().await? {
            acknowledged += 1;
        }
    }
    Ok(())
}

async fn receive(client: &mut Client, messages: usize) -> Result<()> {
    let mut received = 0;
    while received < messages {
        if let Packet::Publish { .. } = client.next().await? {
            received += 1;
        }
    }
    client.flush().await
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn number(count: usize) -> f64 {
    count as f64
}

/// What was measured on one transport with one window.
#[derive(Default)]
struct Calls {
    p50: Pairs,
    p99: Pairs,
    processor: Pairs,
}

/// Both brokers on each transport, by turns.
pub fn measure(brokers: &Brokers, amounts: Amounts, report: &mut Report) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ours = brokers.start(Maker::Ours)?;
    let theirs = brokers.start(Maker::Mosquitto)?;
    for transport in Transport::ALL {
        crate::report::say(&format!("{transport}: requests and messages"));
        runtime.block_on(on(brokers, [&ours, &theirs], transport, amounts, report))?;
    }
    ours.stop()?;
    theirs.stop()?;
    Ok(())
}

async fn on(
    brokers: &Brokers,
    [ours, theirs]: [&Broker; 2],
    transport: Transport,
    amounts: Amounts,
    report: &mut Report,
) -> Result<()> {
    let mut ours = Talk::begin(brokers, Maker::Ours, ours.pid()?, transport).await?;
    let mut theirs = Talk::begin(brokers, Maker::Mosquitto, theirs.pid()?, transport).await?;
    let mut calls = [Calls::default(), Calls::default()];
    let mut floods = Pairs::default();
    for round in 0..=amounts.rounds {
        for maker in Maker::both(round) {
            clock::rest(Duration::ZERO)?;
            let talk = match maker {
                Maker::Ours => &mut ours,
                Maker::Mosquitto => &mut theirs,
            };
            for (window, calls) in WINDOWS.iter().zip(&mut calls) {
                let (times, processor) = talk.calls(amounts.calls, *window).await?;
                // The first is to warm up.
                if round > 0 {
                    maker.of(&mut calls.p50).push(quantile(&times, 0.5));
                    maker.of(&mut calls.p99).push(quantile(&times, 0.99));
                    maker.of(&mut calls.processor).push(processor);
                }
            }
            let flood = talk.flood(amounts.messages).await?;
            if round > 0 {
                maker.of(&mut floods).push(flood);
            }
        }
    }
    for (window, calls) in WINDOWS.iter().zip(&calls) {
        for (what, pairs, goal) in [
            ("p50", &calls.p50, Goal::Times(1.5)),
            ("p99", &calls.p99, Goal::None),
            ("broker's processor a call", &calls.processor, Goal::None),
        ] {
            let measure = format!("{transport}, {window} in flight: {what}");
            report.add(row(measure, "µs", pairs, goal));
        }
    }
    let measure = format!("{transport}: messages one way, more is better");
    report.add(row(measure, "/s", &floods, Goal::None));
    placed(transport, [&mut ours, &mut theirs], amounts, report).await
}

/// One request in flight with client and broker held on one processor, and on two. Which of them the kernel chooses makes
/// more of a difference than the broker: without this a ratio may compare two placements.
async fn placed(
    transport: Transport,
    [ours, theirs]: [&mut Talk; 2],
    amounts: Amounts,
    report: &mut Report,
) -> Result<()> {
    let Some(processors) = Processors::find()? else {
        return Ok(());
    };
    let client = i32::try_from(std::process::id())?;
    for (name, place) in [
        ("on one processor", &processors.first),
        ("on two processors", &processors.last),
    ] {
        let mut pairs = Pairs::default();
        for round in 0..=amounts.rounds {
            for maker in Maker::both(round) {
                let talk = match maker {
                    Maker::Ours => &mut *ours,
                    Maker::Mosquitto => &mut *theirs,
                };
                let _client = Held::on(&processors, client, &processors.first)?;
                let _broker = Held::on(&processors, talk.pid, place)?;
                let (times, _) = talk.calls(amounts.calls, 1).await?;
                if round > 0 {
                    maker.of(&mut pairs).push(quantile(&times, 0.5));
                }
            }
        }
        let measure = format!("{transport}, 1 in flight, client and broker {name}: p50");
        report.add(row(measure, "µs", &pairs, Goal::None));
    }
    Ok(())
}

fn row(measure: String, unit: &'static str, pairs: &Pairs, goal: Goal) -> Row {
    Row {
        measure,
        unit,
        ours: median(&pairs.ours),
        bare: Some(median(&pairs.bare)),
        goal,
    }
}
