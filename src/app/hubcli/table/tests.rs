use super::*;
use bus::golang::decode;
use bus::wire::ListReply;

fn style(width: Option<usize>) -> Style {
    Style {
        paint: Paint::Plain,
        width,
        nowrap: false,
        now_ms: 1_698_434_815_000,
        zone: TimeZone::fixed(jiff::tz::offset(-7)),
    }
}

fn of_the_original() -> Vec<PluginInfo> {
    let vectors = include_str!("../../../../tests/fixtures/vectors/list.json");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
    let payload = vectors[1]["payload"].as_str().unwrap();
    decode::<ListReply>(payload.as_bytes()).unwrap().info
}

fn failing() -> PluginInfo {
    PluginInfo {
        name: "counter".to_owned(),
        status: "Plugin 'counter' has stopped with: exit status 1".to_owned(),
        start_count: 7,
        stop_time_mse: 1_698_434_814_005,
        phase: "backoff".to_owned(),
        enabled: true,
        restarts: 6,
        next_start_mse: 1_698_434_847_000,
        cause: "exited with code 1 after 0.2 s".to_owned(),
        ..PluginInfo::default()
    }
}

#[test]
fn the_columns_are_those_of_the_original() {
    assert_eq!(
        list(&of_the_original(), &style(None)),
        "\
Service                      Size   Starts       PID    CPU   Memory    Status   Since                Last Error
-------                      ----   ------       ---    ---   ------    ------   -----                ----------
certs                       12 MB        0         0     0%     0 MB   stopped
mqttcore                    24 MB        1      4242     3%    30 MB   running   Oct 27 12:26:50.000
"
    );
}

#[test]
fn ours_follow_to_the_right() {
    let table = list(&[failing()], &style(None));
    let line = table.lines().nth(2).unwrap();
    assert!(
        line.ends_with(
            "stopped   Oct 27 12:26:54.005  Plugin 'counter' has stopped with: exit status 1   \
             backoff     yes              6   in 32s     exited with code 1 after 0.2 s"
        ),
        "{line}"
    );
    let header = table.lines().next().unwrap();
    for (title, value) in [
        ("Last Error", "Plugin"),
        ("Phase", "backoff"),
        ("Enabled", "yes"),
        ("Cause", "exited"),
    ] {
        assert_eq!(header.find(title), line.find(value), "{title}");
    }
}

#[test]
fn a_table_fits_its_terminal() {
    let mut long = failing();
    long.name = "a-name-that-is-longer-than-its-column-by-far".to_owned();
    long.cause = "ü".repeat(300);
    for width in [20, 80, 120, 200] {
        for line in list(&[failing(), long.clone()], &style(Some(width))).lines() {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
    let wide = list(&[long], &style(Some(200)));
    assert!(wide.contains("backoff") && wide.contains('…'), "{wide}");
}

#[test]
fn colours_change_nothing_but_colours() {
    let plugins = [of_the_original(), vec![failing()]].concat();
    let mut colourful = style(Some(180));
    colourful.paint = Paint::Colours;
    let painted = list(&plugins, &colourful);
    assert!(painted.contains("\u{1b}[32mrunning\u{1b}[0m"));
    assert!(painted.contains("\u{1b}[31mstopped\u{1b}[0m"));
    let bare = ["\u{1b}[0m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m"]
        .iter()
        .fold(painted.clone(), |text, code| text.replace(code, ""));
    assert_eq!(bare, list(&plugins, &style(Some(180))));
}

#[test]
fn nothing_in_it_commands_the_terminal() {
    let mut evil = failing();
    evil.name = "\u{1b}[2J".to_owned();
    evil.cause = "a\nb\r".to_owned();
    evil.phase = "\u{7}".to_owned();
    let table = list(&[evil], &style(None));
    assert_eq!(table.lines().count(), 3);
    assert!(
        !table.contains(|c: char| c.is_control() && c != '\n'),
        "{table:?}"
    );
}

#[test]
fn times_to_come_are_short() {
    for (ms, words) in [
        (-5, "now"),
        (0, "now"),
        (1, "in 1s"),
        (99_000, "in 99s"),
        (150_000, "in 2m"),
        (3_600_000, "in 60m"),
        (7_200_000, "in 2h"),
        (i64::MAX, "in 2562047788015h"),
    ] {
        assert_eq!(in_words(ms), words);
    }
}

#[test]
fn what_is_wrong_with_the_launcher_stands_below() {
    assert_eq!(footer("", &style(None)), "");
    assert_eq!(
        footer("no bus: no hub listens at\u{7} x", &style(Some(24))),
        "! launcher: no bus: no …\n  hubcli why launcher tells more\n"
    );
}
