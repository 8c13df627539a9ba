// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

var update = flag.Bool("update", false, "rewrite docs/openapi.yaml and the golden files")

func TestOpenAPIIsUpToDate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, got := do(t, "GET", s.web.URL+"/openapi.yaml", "", "", nil)
	const path = "../../docs/openapi.yaml"
	head := "# Made from internal/api and internal/server by go test ./internal/server -run UpToDate -update.\n"
	text := head + string(got)
	if *update {
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(text), 0o644)))
	}
	want, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(text == string(want)), qt.Commentf("docs/openapi.yaml is out of date: go test ./internal/server -run UpToDate -update"))
}

// TestTheDocumentNamesEveryRoute: what is served is described, and the other
// way round.
func TestTheDocumentNamesEveryRoute(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, text := do(t, "GET", s.web.URL+"/openapi.json", "", "", nil)
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	qt.Assert(t, qt.IsNil(json.Unmarshal(text, &doc)))
	qt.Check(t, qt.Equals(doc.OpenAPI, "3.1.0"))
	qt.Check(t, qt.IsTrue(len(doc.Paths) > 30))
	qt.Check(t, qt.IsFalse(strings.Contains(string(text), "Huma")))
	for path, methods := range doc.Paths {
		for method := range methods {
			url := strings.NewReplacer("{id}", "x", "{name}", "x", "{key}", "x", "{file}", "x.json", "{path}", "x").Replace(path)
			_, body := do(t, strings.ToUpper(method), s.web.URL+url, s.secret, "", nil)
			qt.Check(t, qt.IsFalse(bytes.Contains(body, []byte("TS7606")) || bytes.Contains(body, []byte("nothing has the path"))), qt.Commentf("%s %s", method, path))
		}
	}
	source, err := os.ReadFile("routes.go")
	qt.Assert(t, qt.IsNil(err))
	routes := regexp.MustCompile(`mux\.Handle(?:Func)?\("([A-Z]+) (/[^"]*)"`).FindAllStringSubmatch(string(source), -1)
	qt.Assert(t, qt.IsTrue(len(routes) > 15))
	for _, route := range routes {
		method, path := route[1], route[2]
		path = strings.Replace(path, "{path...}", "{path}", 1)
		if strings.HasPrefix(path, "/openapi.") || path == "/console" || path == "/{$}" {
			continue
		}
		_, ok := doc.Paths[path][strings.ToLower(method)]
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s is not in the document", route[0]))
	}
}
