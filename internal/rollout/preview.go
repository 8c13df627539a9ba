// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Places is how many of n machines a wave and those before it have together.
func (p *Plan) Places(wave, n int) int { return places(p, wave, n) }

// Bars counts the machines in scope by what keeps them from being offered the
// live patch now; BarNone is nothing.
func Bars(s *State, f *Facts, now time.Time) map[Bar]int {
	all := map[Bar]int{}
	for i := range f.Machines {
		all[bar(s, f, &f.Machines[i], now)]++
	}
	return all
}

// ParseLadder reads a ladder in YAML and checks it. A key that it does not know
// is an error. name is for messages.
func ParseLadder(name string, b []byte) (Ladder, error) {
	bad := func(format string, args ...any) error { return code.New("TS8105", name, fmt.Sprintf(format, args...)) }
	if len(b) > maxPlan {
		return Ladder{}, bad("it is longer than %d bytes", maxPlan)
	}
	var l Ladder
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&l); err != nil && !errors.Is(err, io.EOF) {
		return Ladder{}, bad("%s", err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Ladder{}, bad("there is more than one document in it")
	}
	if err := l.Check(name); err != nil {
		return Ladder{}, err
	}
	return l, nil
}
