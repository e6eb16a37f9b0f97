use super::standard::{
    Described, Health, Question, Reflection, ReflectionAsked, Told, routes as standard,
};
use super::*;
use axum::Router;
use axum::routing::post;
use prost_types::FileDescriptorProto;
use prost_types::field_descriptor_proto::Type;

#[derive(Clone, PartialEq, Message)]
struct Word {
    #[prost(string, tag = "1")]
    word: String,
}

const DESCRIBED: Described = Described {
    file: "words.proto",
    package: "words.v1",
    service: "Words",
    method: "Shout",
    asked: ("Word", &[("word", Type::String)]),
    answered: ("Word", &[("word", Type::String)]),
};

async fn shout(word: Word) -> Result<Word, Status> {
    match word.word.as_str() {
        "" => Err(Status::new(Code::InvalidArgument, "100 % empty: leer, 빈")),
        "slow" => std::future::pending().await,
        word => Ok(Word {
            word: word.to_uppercase(),
        }),
    }
}

async fn serving(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let forever = std::future::pending();
    tokio::spawn(crate::server::serve(listener, router, forever));
    address
}

async fn words() -> String {
    let method = |request| async { serve(request, shout) };
    serving(standard(DESCRIBED).route(&DESCRIBED.path(), post(method))).await
}

async fn ask<A: Message + Default>(
    address: &str,
    path: &str,
    message: &impl Message,
    limit: Duration,
) -> Result<A, Status> {
    let stream = crate::tunnel::connect(address, None, None)
        .await
        .expect("connected");
    let answer = call(stream, "words", path, HeaderMap::new(), message, limit).await;
    answer.map(|(message, _)| message)
}

const LIMIT: Duration = Duration::from_secs(20);

fn word(word: &str) -> Word {
    Word { word: word.into() }
}

#[tokio::test]
async fn a_call_is_answered_or_fails_with_its_status() {
    let address = words().await;
    let path = DESCRIBED.path();
    let answer: Word = ask(&address, &path, &word("hello"), LIMIT)
        .await
        .expect("an answer");
    assert_eq!(answer.word, "HELLO");
    let status = ask::<Word>(&address, &path, &word(""), LIMIT)
        .await
        .expect_err("refused");
    assert_eq!(
        status,
        Status::new(Code::InvalidArgument, "100 % empty: leer, 빈")
    );
    let status = ask::<Word>(&address, "/words.v1.Words/Sing", &word("x"), LIMIT)
        .await
        .expect_err("unknown");
    assert_eq!(status.code, Code::Unimplemented as i32);
    let status = ask::<Word>(&address, &path, &word("slow"), Duration::from_millis(50))
        .await
        .expect_err("late");
    assert_eq!(status.code, Code::DeadlineExceeded as i32);
    let huge = word(&"x".repeat(MAX_MESSAGE + 1));
    let status = ask::<Word>(&address, &path, &huge, LIMIT)
        .await
        .expect_err("too large");
    assert_eq!(status.code, Code::ResourceExhausted as i32);
}

#[tokio::test]
async fn an_answer_of_plain_http_is_a_status() {
    let busy = || async { http::StatusCode::SERVICE_UNAVAILABLE };
    let address = serving(Router::new().fallback(busy)).await;
    let status = ask::<Word>(&address, "/x", &word("x"), LIMIT)
        .await
        .expect_err("refused");
    assert_eq!(
        status,
        Status::new(Code::Unavailable, "unexpected HTTP status 503")
    );
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let address = words().await;
    let check = "/grpc.health.v1.Health/Check";
    let health: Health = ask(&address, check, &word("words.v1.Words"), LIMIT)
        .await
        .expect("health");
    assert_eq!(health.status, 1);
    let status = ask::<Health>(&address, check, &word("other"), LIMIT)
        .await
        .expect_err("unknown");
    assert_eq!(status.code, Code::NotFound as i32);

    let told = async |question| {
        let asked = ReflectionAsked {
            host: String::new(),
            question: Some(question),
        };
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let answer: Reflection = ask(&address, path, &asked, LIMIT).await.expect("told");
        answer.told.expect("an answer")
    };
    let Told::Services(list) = told(Question::ListServices(String::new())).await else {
        panic!("services");
    };
    assert_eq!(list.services[0].name, "words.v1.Words");
    let symbol = Question::FileWithSymbol("words.v1.Words.Shout".into());
    let Told::Files(files) = told(symbol).await else {
        panic!("files");
    };
    let file = FileDescriptorProto::decode(files.descriptors[0].as_slice()).expect("a file");
    assert_eq!(file.message_type.len(), 1);
    assert_eq!(
        file.service[0].method[0].input_type.as_deref(),
        Some(".words.v1.Word")
    );
    let other = Question::FileByName("other.proto".into());
    assert!(matches!(told(other).await, Told::Error(_)));
}
