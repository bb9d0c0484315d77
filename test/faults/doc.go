// Package faults holds the tests that hurt a mesh's servers and judge by a model
// what clients saw meanwhile: history, model, verdict.
package faults
