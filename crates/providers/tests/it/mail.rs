//! Mail, to a server that takes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use providers::{About, Channel, Kind, Mail, OwnProgram, Providers};
use recovery::effect::Effects;
use testbed::MailServer;

use crate::conformance::Known;

fn teller(server: &MailServer) -> Providers {
    let mail = Mail {
        server: server.address(),
        from: "Rollforward <rollforward@shop.example>".into(),
        to: vec!["oncall@shop.example".into(), "second@shop.example".into()],
        login: None,
        is_plain: true,
    };
    let own = OwnProgram { program: "/does/not/exist".into(), config: "/does/not/exist".into() };
    let channel = Channel { kind: Kind::Mail(mail), template: None };
    let channels = BTreeMap::from([("oncall".to_owned(), channel)]);
    let about = About { service: "shop".into(), ..About::default() };
    let made = Providers::new(own, Arc::new(Known), channels, BTreeMap::new()).unwrap();
    made.with_about(about)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_with_subject_recipients_and_text() {
    let server = MailServer::start();
    let text = "Users are back.\nÄnderungen: 3 Bestellungen fehlen.";
    teller(&server).tell("oncall", "restored", text).await.unwrap();
    let messages = server.messages();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let message = &messages[0];
    for line in [
        "Subject: [shop] restored",
        "From: Rollforward <rollforward@shop.example>",
        "oncall@shop.example, second@shop.example",
        "Users are back.",
    ] {
        assert!(message.contains(line), "no {line:?} in\n{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_a_failure_that_may_be_tried_again() {
    let mut server = MailServer::absent();
    let teller = teller(&server);
    let failure = teller.tell("oncall", "halted", "look").await.unwrap_err();
    assert_eq!(failure.class, recovery::journal::FailureClass::Retry, "{failure:?}");
    assert!(failure.message.contains(&server.address()), "{failure:?}");
    server.appear();
    teller.tell("oncall", "halted", "look").await.unwrap();
    assert_eq!(server.messages().len(), 1);
}
