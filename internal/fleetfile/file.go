// SPDX-License-Identifier: Apache-2.0

// Package fleetfile is how a fleet is declared: a YAML file says which tiers,
// policies, groups, enrolment tokens, channels of notifications and settings of
// rollouts there shall be, and what a server has is brought to that, as often as anybody likes.
//
// Parse reads the file and refuses what it does not know, Plan compares it with
// what a server has and says in order what has to be done, and Step.Run does one
// step of it. A plan of what is already so is empty. What is done in part, by
// an interrupted run, is finished by the next.
//
// A section that the file does not have is nobody's business here: the server
// keeps what it has of that kind. What a section does not list is left alone
// too, unless the plan is asked to prune. Secrets are not in the file: the
// enrolment word of a new token is told once, when it is made.
//
// The package is pure: the clock is a value and the server an interface.
package fleetfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
)

// Version is the form of the file that this package reads.
const Version = 1

// MaxSize bounds the text of a file.
const MaxSize = 4 << 20

// File is what a fleet shall be. A nil section is one that the file does not
// have; an empty one is there and lists nothing.
type File struct {
	Version int `yaml:"version"`
	// Tiers in their order, the first to get a live patch first. A new one comes
	// right after the one that is listed before it.
	Tiers []string `yaml:"tiers,omitempty"`
	// Policies by their names, in the words of tsugictl policy set --file.
	Policies map[string]selection.Policy `yaml:"policies,omitempty"`
	Groups   map[string]Group            `yaml:"groups,omitempty"`
	Tokens   map[string]Token            `yaml:"tokens,omitempty"`
	Channels map[string]Channel          `yaml:"channels,omitempty"`
	Rollouts *Rollouts                   `yaml:"rollouts,omitempty"`
}

// Group is what the machines of a group have in common.
type Group struct {
	Policy string `yaml:"policy"` // "default" takes any other back
}

// Token is what machines enrol with. Tokens can't be changed: one that shall be
// another is replaced, and its word is a new one then.
type Token struct {
	Tier  string `yaml:"tier,omitempty"` // "": the last one
	Group string `yaml:"group,omitempty"`
	Limit int    `yaml:"limit,omitempty"` // 0: only the plan's
	// Expires is a moment, not a time from now, or the same file would mean
	// something else tomorrow. The zero time is never.
	Expires time.Time `yaml:"expires,omitempty"`
}

var (
	lineForm = regexp.MustCompile(`^line (\d+): `)
	// typeForm is where the YAML library speaks of Go's types.
	typeForm = regexp.MustCompile(` (in|into) type [\w.]+|!!(\w+) |(into) (map\[\w+\])?[\w.]+$`)
)

// Parse reads a file. name is used for messages. A key that it does not know is
// an error, as is a key that is there twice: a misspelt exclusion must not be
// lost. Errors: TS8301 with the line for what is no such file, TS8302 for each
// thing in it that can't be.
func Parse(name string, text []byte) (*File, error) {
	if len(text) > MaxSize {
		return nil, code.New("TS8301", name, fmt.Sprintf("it is longer than %d MiB", MaxSize>>20))
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var f File
	if err := d.Decode(&f); errors.Is(err, io.EOF) {
		return nil, code.New("TS8301", name, "it is empty")
	} else if err != nil {
		if _, ok := errors.AsType[*time.ParseError](err); ok {
			if at := badTimes(text); at != nil {
				err = at
			}
		}
		return nil, unreadable(name, err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, code.New("TS8301", name, "there is more than one document in it")
	}
	if f.Version != Version {
		return nil, code.New("TS8301", name, fmt.Sprintf("version %d: this program reads version %d", f.Version, Version)).
			WithFix(fmt.Sprintf("begin the file with version: %d", Version))
	}
	for key, p := range f.Policies {
		if p.Name == "" {
			p.Name = key
			f.Policies[key] = p
		}
	}
	return &f, f.check(name)
}

// unreadable is what the YAML library says, one problem for each thing.
func unreadable(name string, err error) error {
	all := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if types, ok := errors.AsType[*yaml.TypeError](err); ok {
		all = types.Errors
	}
	var out []error
	for _, why := range all {
		where := name
		if m := lineForm.FindStringSubmatch(why); m != nil {
			where, why = name+" line "+m[1], why[len(m[0]):]
		}
		why = typeForm.ReplaceAllStringFunc(why, func(s string) string {
			if strings.HasPrefix(s, "!!") {
				return strings.TrimPrefix(s, "!!")
			}
			return ""
		})
		out = append(out, code.New("TS8301", where, printable(why)))
	}
	return errors.Join(out...)
}

// badTimes finds the times that are none: the library does not say where.
func badTimes(text []byte) error {
	var top yaml.Node
	if yaml.Unmarshal(text, &top) != nil {
		return nil
	}
	var out []string
	var look func(n *yaml.Node)
	look = func(n *yaml.Node) {
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "expires" && c.Kind == yaml.ScalarNode && c.Decode(new(time.Time)) != nil {
				out = append(out, fmt.Sprintf("line %d: %.60q is neither a day (2026-12-31) nor a moment (2026-12-31T12:00:00Z), without quotes", c.Line, c.Value))
			}
			look(c)
		}
	}
	look(&top)
	if out == nil {
		return nil
	}
	return &yaml.TypeError{Errors: out}
}

// printable keeps foreign bytes from a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
