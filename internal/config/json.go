package config

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml"
)

// JSONToYAML writes a JSON document as YAML, its keys in the same order.
func JSONToYAML(data []byte) ([]byte, error) {
	out, err := yaml.JSONToYAML(data)
	if err != nil {
		return nil, fmt.Errorf("writing JSON as YAML: %w", err)
	}
	return out, nil
}

// YAMLToJSON writes a YAML document as JSON, its keys in the same order.
func YAMLToJSON(data []byte) ([]byte, error) {
	out, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("writing YAML as JSON: %w", err)
	}
	return bytes.TrimSpace(out), nil
}
