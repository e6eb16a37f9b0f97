//! What requests and connections must pass, made ready: outside judges, tokens, policies. Whether one
//! passes, [`authorization`](crate::authorization) finds out.

use std::sync::Arc;

use mesh_config as model;

use super::{Cluster, Clusters, error::CompileError};
use crate::{
    jwt::Provider,
    rbac::{Attributes, Policies, Rbac},
};

/// What the requests of a filter chain must pass.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) external: Vec<Judge>,
    pub(crate) tokens: Vec<Provider>,
    pub(crate) rbac: Rbac,
}

impl Gate {
    pub(crate) fn compile(
        from: &model::Authorization,
        clusters: &mut Clusters,
    ) -> Result<Self, CompileError> {
        let external = from.external.iter();
        Ok(Self {
            external: external
                .map(|external| Judge::compile(external, clusters))
                .collect::<Result<_, _>>()?,
            tokens: from.jwt.iter().map(Provider::compile).collect(),
            rbac: Rbac::compile(&from.rbac)?,
        })
    }

    /// Lets nothing pass: what stands in for policies that cannot be had.
    fn closed() -> Self {
        Self {
            external: Vec::new(),
            tokens: Vec::new(),
            rbac: nobody(),
        }
    }
}

/// An outside judge, asked over HTTP with the head of the request. Envoy's `ext_authz`.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) config: model::ExternalAuthorization,
    policies: Policies,
    pub(crate) cluster: Arc<Cluster>,
}

impl Judge {
    pub(crate) fn compile(
        config: &model::ExternalAuthorization,
        clusters: &mut Clusters,
    ) -> Result<Self, CompileError> {
        Ok(Self {
            policies: Policies::compile(&config.policies)?,
            cluster: clusters.named(&config.cluster),
            config: config.clone(),
        })
    }

    /// The request is one to ask about.
    pub(crate) fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        self.policies.first(attributes).is_some()
    }
}

/// Gates by what they were made from: keys and expressions are not read again at each update.
#[derive(Debug, Default)]
pub(crate) struct Gates(Vec<(Arc<model::Authorization>, Arc<Gate>)>);

impl Gates {
    /// The gate of a configuration. One that cannot be had lets nothing pass.
    pub(crate) fn gate(
        &mut self,
        from: &Arc<model::Authorization>,
        clusters: &mut Clusters,
    ) -> Arc<Gate> {
        let known = self
            .0
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, from) || known == from);
        if let Some((_, gate)) = known {
            return gate.clone();
        }
        let gate = Arc::new(Gate::compile(from, clusters).unwrap_or_else(|error| {
            tracing::error!("authorization: {error}; nothing passes");
            Gate::closed()
        }));
        self.0.push((from.clone(), gate.clone()));
        gate
    }

    pub(crate) fn forget_unused(&mut self) {
        self.0.retain(|(_, gate)| Arc::strong_count(gate) > 1);
    }
}

/// The policies of a TCP port; such as cannot be had let nothing pass.
pub(crate) fn of_tcp(rbac: &model::Rbac) -> Rbac {
    Rbac::compile(rbac).unwrap_or_else(|error| {
        tracing::error!("authorization: {error}; nothing passes");
        nobody()
    })
}

fn nobody() -> Rbac {
    let nothing = model::Rbac {
        allow: Some(Vec::new()),
        ..model::Rbac::default()
    };
    Rbac::compile(&nothing).expect("no rule, no expression")
}
