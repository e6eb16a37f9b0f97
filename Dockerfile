# syntax=docker/dockerfile:1
# One image for everything: the control plane, the proxies, the sample services and the tools.
#
#   docker buildx bake                  this machine's platform, into the local engine
#   docker buildx bake release          amd64 and arm64, to a registry, with SBOM and provenance
#
# `meshdojo image save` decides what is in it: the binary, and a shell, curl, nft and ip with their libraries.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
ARG TARGETPLATFORM
# The registry and the compiled dependencies stay in the builder's cache from one build to the next.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=target-$TARGETPLATFORM \
    cargo build --profile dist --locked --package meshdojo && \
    install -m 755 target/dist/meshdojo /meshdojo

FROM debian:bookworm-slim AS files
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates curl iproute2 nftables procps
COPY --from=build /meshdojo /usr/local/bin/meshdojo
RUN mkdir /archive /image && meshdojo image save /archive.tar && tar -xf /archive.tar -C /archive && \
    layer=$(sed 's/.*"Layers":\["\([^"]*\)".*/\1/' /archive/manifest.json) && \
    tar -xpzf "/archive/$layer" -C /image

FROM scratch
COPY --from=files /image /
# In a pod of a real cluster a service is reached at the pod's address, not only from the pod itself.
ENV PATH=/usr/local/bin:/usr/bin:/bin DOJO_LISTEN_IP=0.0.0.0
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/meshdojo"]
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Mesh Dojo" \
      org.opencontainers.image.description="A service-mesh training lab in one binary" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION"
