// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"slices"
	"strings"
)

// Commands are what a build ran, in the order in which it ran it.
type Commands struct {
	Compiles []Command
	Links    []Link
}

// OfSource finds the commands that compiled a source, by its path in the root.
// A source may be compiled more than once: for a shared library and an archive.
func (c *Commands) OfSource(source string) []Command {
	var out []Command
	for _, cmd := range c.Compiles {
		if cmd.Source == source {
			out = append(out, cmd)
		}
	}
	return out
}

// OfObject finds the last command that made an object.
func (c *Commands) OfObject(object string) (Command, bool) {
	for _, cmd := range slices.Backward(c.Compiles) {
		if cmd.Object == object {
			return cmd, true
		}
	}
	return Command{}, false
}

// LinkedInto gives the objects that a file was linked of, by its path in the
// root, those of archives included: an archive's object may be there though
// the linker did not need it. Without a recorded link it is empty.
func (c *Commands) LinkedInto(output string) []string {
	made := make(map[string]Link)
	for _, l := range c.Links {
		if old, ok := made[l.Output]; ok && strings.HasSuffix(l.Output, ".a") {
			l.Inputs = append(slices.Clone(old.Inputs), l.Inputs...) // ar adds
		}
		made[l.Output] = l
	}
	var out []string
	seen := make(map[string]bool)
	var add func(string)
	add = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		l, ok := made[name]
		if !ok {
			out = append(out, name)
			return
		}
		for _, in := range l.Inputs {
			add(in)
		}
	}
	if _, ok := made[output]; !ok {
		return nil
	}
	add(output)
	return out
}
