// Package apiv1 is the contract between servers, agents and their clients: the
// messages and gRPC services of version 1, generated from the .proto files here.
package apiv1
