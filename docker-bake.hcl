variable "IMAGE" {
  default = "meshdojo/meshdojo"
}

variable "VERSION" {
  default = "0.1.0"
}

group "default" {
  targets = ["local"]
}

target "image" {
  args = { VERSION = VERSION }
  tags = ["${IMAGE}:${VERSION}"]
}

target "local" {
  inherits = ["image"]
  output   = ["type=docker"]
}

target "release" {
  inherits  = ["image"]
  platforms = ["linux/amd64", "linux/arm64"]
  output    = ["type=registry"]
  attest    = ["type=sbom", "type=provenance,mode=max"]
}
