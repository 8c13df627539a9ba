// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SetConfig sets a key of a configuration text, such as transition.limit, to
// a value in YAML, and leaves the rest as it is; "" takes the key out. The
// result is checked.
func SetConfig(text []byte, key, value string) ([]byte, error) {
	if len(text) > maxConfig {
		return nil, badConfig("", 0, "too long")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, badConfig("", 0, "not YAML: "+firstLine(err))
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}}
	}
	n := doc.Content[0]
	words := strings.Split(key, ".")
	for _, w := range words[:len(words)-1] {
		next := valueOf(n, w)
		if next == nil {
			if value == "" {
				return text, nil
			}
			next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			put(n, w, next)
		}
		n = next
	}
	last := words[len(words)-1]
	if n.Kind != yaml.MappingNode {
		return nil, badConfig(key, n.Line, "no such key")
	}
	if value == "" {
		remove(n, last)
	} else {
		var v yaml.Node
		if err := yaml.Unmarshal([]byte(value), &v); err != nil || len(v.Content) != 1 {
			return nil, badConfig(key, 0, "the value is not YAML")
		}
		if old := valueOf(n, last); old != nil {
			v.Content[0].LineComment = old.LineComment
			*old = *v.Content[0]
		} else {
			put(n, last, v.Content[0])
		}
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, badConfig(key, 0, firstLine(err))
	}
	if out.String() == "{}\n" {
		out.Reset()
	}
	_, err := ParseConfig(out.Bytes())
	return out.Bytes(), err
}

func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func put(n *yaml.Node, key string, value *yaml.Node) {
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
}

func remove(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}
