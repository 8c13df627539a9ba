// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

const channelFile = `version: 1
channels:
  on call:
    to: [https://hooks.example.com/tsugi]
    kinds: [rollout.*, machine.crashed]
    least: warning
  team:
    to: [ops@example.com]
    digest: {every: week, day: monday, at: "09:00", zone: Asia/Tokyo}
    repeat: 12h
`

func TestChannelsAreMadeChangedAndTakenAway(t *testing.T) {
	t.Parallel()
	s := fresh()
	run := func(text string, o Options) []string {
		f, err := Parse("fleet.yaml", []byte(text))
		qt.Assert(t, qt.IsNil(err))
		p, err := f.Plan(s.have, now, o)
		qt.Assert(t, qt.IsNil(err))
		var said []string
		for _, step := range p.Steps {
			said = append(said, string(step.Do)+" "+string(step.Kind)+" "+step.Name)
			made, err := step.Run(t.Context(), s)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(made != nil, step.Do == Create || step.Do == Replace))
		}
		again, err := f.Plan(s.have, now, o)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(again.Steps, 0))
		return said
	}
	qt.Check(t, qt.DeepEquals(run(channelFile, Options{}), []string{"create channel on call", "create channel team"}))
	qt.Check(t, qt.Equals(s.have.Channels[1].Digest.Weekday, 1))
	qt.Check(t, qt.Equals(s.have.Channels[1].Repeat, int64(12*time.Hour/time.Second)))

	f, notes := Export(s.have, now)
	qt.Check(t, qt.HasLen(notes, 0))
	text, err := f.Encode()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(run(string(text), Options{}), 0), qt.Commentf("%s", text))

	qt.Check(t, qt.DeepEquals(run(`version: 1
channels:
  on call: {to: [https://hooks.example.com/tsugi], paused: true}
  team: {to: [https://hooks.example.com/team]}
`, Options{}), []string{"change channel on call", "replace channel team"}))
	qt.Check(t, qt.HasLen(run("version: 1\n", Options{Prune: true}), 0))
	qt.Check(t, qt.DeepEquals(run("version: 1\nchannels: {}\n", Options{Prune: true}), []string{"remove channel on call", "remove channel team"}))
}

func TestChannelsThatCantBe(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no address":   "{kinds: [test]}",
		"two webhooks": "{to: [https://a.example, https://b.example]}",
		"a password":   "{to: ['https://a:b@c.example']}",
		"no kind":      "{to: [a@b.example], kinds: [weather.*]}",
		"a day":        "{to: [a@b.example], digest: {every: week, day: someday}}",
		"no rhythm":    "{to: [a@b.example], digest: {at: '09:00'}}",
		"half seconds": "{to: [a@b.example], repeat: 1500ms}",
	} {
		_, err := Parse("f", []byte("version: 1\nchannels:\n  x: "+text+"\n"))
		qt.Check(t, qt.ErrorMatches(err, "(?s)TS8302.*channels.x.*"), qt.Commentf("%s", name))
	}
}
