//! What every gRPC service is expected to have: the health service that probes ask, and the
//! reflection service that tells tools such as grpcurl what can be called.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::post;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MethodDescriptorProto,
    ServiceDescriptorProto,
};

use super::{Code, Status, refuse, serve};

/// A service with one method, in words that reflection passes on.
#[derive(Clone, Debug)]
pub struct Described {
    /// The file that would define it, for example `echo.proto`.
    pub file: &'static str,
    /// Its package; empty for none.
    pub package: &'static str,
    /// Its name within the package.
    pub service: &'static str,
    /// Its method.
    pub method: &'static str,
    /// The message that is sent, and its fields in the order of their numbers from 1.
    pub asked: (&'static str, &'static [Field]),
    /// The message that is answered.
    pub answered: (&'static str, &'static [Field]),
}

/// A field of a message: its name and type.
pub type Field = (&'static str, Type);

impl Described {
    /// `package.Service`.
    #[must_use]
    pub fn name(&self) -> String {
        self.of_package(self.service)
    }

    /// The path of its method: `/package.Service/Method`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}/{}", self.name(), self.method)
    }

    fn of_package(&self, name: &str) -> String {
        if self.package.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.package)
        }
    }

    fn defines(&self, symbol: &str) -> bool {
        let names = [self.service, self.asked.0, self.answered.0];
        let method = format!("{}.{}", self.name(), self.method);
        symbol == method || names.iter().any(|name| self.of_package(name) == symbol)
    }

    fn descriptor(&self) -> FileDescriptorProto {
        let mut messages = vec![message(self.asked)];
        if self.answered.0 != self.asked.0 {
            messages.push(message(self.answered));
        }
        FileDescriptorProto {
            name: Some(self.file.to_owned()),
            package: Some(self.package.to_owned()),
            message_type: messages,
            service: vec![ServiceDescriptorProto {
                name: Some(self.service.to_owned()),
                method: vec![MethodDescriptorProto {
                    name: Some(self.method.to_owned()),
                    input_type: Some(format!(".{}", self.of_package(self.asked.0))),
                    output_type: Some(format!(".{}", self.of_package(self.answered.0))),
                    ..MethodDescriptorProto::default()
                }],
                ..ServiceDescriptorProto::default()
            }],
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        }
    }
}

fn message((name, fields): (&str, &[Field])) -> DescriptorProto {
    let fields = fields.iter().zip(1..).map(|((name, kind), number)| {
        let mut field = FieldDescriptorProto {
            name: Some((*name).to_owned()),
            number: Some(number),
            json_name: Some((*name).to_owned()),
            ..FieldDescriptorProto::default()
        };
        field.set_type(*kind);
        field.set_label(Label::Optional);
        field
    });
    DescriptorProto {
        name: Some(name.to_owned()),
        field: fields.collect(),
        ..DescriptorProto::default()
    }
}

#[derive(Clone, PartialEq, Message)]
struct HealthAsked {
    #[prost(string, tag = "1")]
    service: String,
}

/// 1 is `SERVING`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Health {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectionAsked {
    #[prost(string, tag = "1")]
    pub(super) host: String,
    #[prost(oneof = "Question", tags = "3, 4, 7")]
    pub(super) question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Question {
    #[prost(string, tag = "3")]
    FileByName(String),
    #[prost(string, tag = "4")]
    FileWithSymbol(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Reflection {
    #[prost(string, tag = "1")]
    pub(super) valid_host: String,
    #[prost(message, optional, tag = "2")]
    pub(super) asked: Option<ReflectionAsked>,
    #[prost(oneof = "Told", tags = "4, 6, 7")]
    pub(super) told: Option<Told>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Told {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Error(ReflectionError),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) descriptors: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Services {
    #[prost(message, repeated, tag = "1")]
    pub(super) services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReflectionError {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// The routes of health and reflection beside those of the service itself.
pub fn routes(described: Described) -> Router {
    let name = described.name();
    let check = move |request: Request| {
        let name = name.clone();
        let answer = move |asked: HealthAsked| {
            let known = asked.service.is_empty() || asked.service == name;
            std::future::ready(if known {
                Ok(Health { status: 1 })
            } else {
                Err(Status::new(Code::NotFound, "unknown service"))
            })
        };
        std::future::ready(serve(request, answer))
    };
    let described = Arc::new(described);
    let reflect = move |request: Request| {
        let described = Arc::clone(&described);
        let answer = move |asked| std::future::ready(Ok(reflect(&described, asked)));
        std::future::ready(serve(request, answer))
    };
    let unknown = |request: Request| async move {
        let text = format!("unknown method {}", request.uri().path());
        refuse(&Status::new(Code::Unimplemented, text))
    };
    Router::new()
        .route("/grpc.health.v1.Health/Check", post(check))
        .route(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            post(reflect.clone()),
        )
        .route(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            post(reflect),
        )
        .fallback(unknown)
}

fn reflect(described: &Described, asked: ReflectionAsked) -> Reflection {
    let file = || Files {
        descriptors: vec![described.descriptor().encode_to_vec()],
    };
    let told = match &asked.question {
        Some(Question::ListServices(_)) => Some(Told::Services(Services {
            services: [described.name(), "grpc.health.v1.Health".to_owned()]
                .map(|name| Service { name })
                .into(),
        })),
        Some(Question::FileByName(name)) if name == described.file => Some(Told::Files(file())),
        Some(Question::FileWithSymbol(symbol)) if described.defines(symbol) => {
            Some(Told::Files(file()))
        }
        Some(Question::FileByName(name) | Question::FileWithSymbol(name)) => {
            Some(Told::Error(ReflectionError {
                code: Code::NotFound as i32,
                message: format!("{name} is not known here"),
            }))
        }
        None => Some(Told::Error(ReflectionError {
            code: Code::Unimplemented as i32,
            message: "extensions are not told".to_owned(),
        })),
    };
    Reflection {
        valid_host: asked.host.clone(),
        asked: Some(asked),
        told,
    }
}
