// SPDX-License-Identifier: Apache-2.0

// Package code holds Tsugi's user-facing problems: every error, refusal and
// risk that a person may have to act on has a stable code here, with one
// sentence of title and one of remedy. Scripts and tests match codes; the
// wording may improve at any time. docs/codes.md is made from this catalogue.
//
// Ranges: TS1xxx input and fixes, TS2xxx targets and packages, TS3xxx
// compiling, TS4xxx refusals of the differ (verdict reboot), TS5xxx the
// module, TS6xxx virtual machine and proof, TS7xxx the artifact and the service
// (TS71xx trust, TS74xx storage, TS75xx jobs, TS76xx the API, TS77xx
// publication, TS78xx running a server), TS80xx risks (advice beside facts),
// TS81xx rollouts, TS82xx people, TS83xx fleet files and notifications,
// TS9xxx the machine Tsugi runs on (TS92xx what keeps it from taking a live
// patch, TS93xx loading, TS94xx the agent, TS95xx health).
package code

import (
	"errors"
	"slices"
	"strings"
	"sync"
)

// Code is a stable identifier such as "TS4101".
type Code string

// Kind tells what a code means for the one who reads it.
type Kind string

const (
	KindError   Kind = "error"   // the command could not do its work
	KindRefusal Kind = "refusal" // the fix cannot be live: verdict reboot
	KindRisk    Kind = "risk"    // advice beside a live verdict
)

// Entry is one line of the catalogue.
type Entry struct {
	Code   Code
	Kind   Kind
	Title  string // what happened, as a sentence without its subject's name
	Remedy string // the usual way out
}

// Problem is one occurrence of a catalogue entry. Where names the place
// (file:line, function, section), Why the particulars. Fix overrides the
// entry's remedy when the occurrence allows better advice.
type Problem struct {
	Code  Code   `json:"code"`
	What  string `json:"what"`
	Where string `json:"where,omitempty"`
	Why   string `json:"why,omitempty"`
	Fix   string `json:"fix,omitempty"`
	Err   error  `json:"-"`
}

// New makes a problem of a catalogue entry. An unknown code is a programming
// error that the catalogue's test finds; it still yields a usable problem.
func New(c Code, where, why string) *Problem {
	e, _ := Lookup(c)
	return &Problem{Code: c, What: e.Title, Where: where, Why: why, Fix: e.Remedy}
}

// With attaches the error that caused the problem.
func (p *Problem) With(err error) *Problem {
	p.Err = err
	return p
}

// WithFix replaces the remedy.
func (p *Problem) WithFix(fix string) *Problem {
	p.Fix = fix
	return p
}

// Error is one line: code, what, where, why. The remedy is left to the edge,
// which prints it on a line of its own.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(string(p.Code))
	b.WriteString(": ")
	b.WriteString(p.What)
	if p.Where != "" {
		b.WriteString(": ")
		b.WriteString(p.Where)
	}
	if p.Why != "" {
		b.WriteString(": ")
		b.WriteString(p.Why)
	}
	if p.Err != nil {
		b.WriteString(": ")
		b.WriteString(p.Err.Error())
	}
	return b.String()
}

func (p *Problem) Unwrap() error { return p.Err }

// Of returns the code that an error chain carries, or "".
func Of(err error) Code {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Code
	}
	return ""
}

// All collects the problems of an error tree, outermost first. A problem
// behind another's cause is left out: the outer one already tells it.
func All(err error) []*Problem {
	switch e := err.(type) {
	case nil:
		return nil
	case *Problem:
		return []*Problem{e}
	case interface{ Unwrap() error }:
		return All(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*Problem
		for _, one := range e.Unwrap() {
			for _, p := range All(one) {
				if !slices.ContainsFunc(all, func(q *Problem) bool { return p.Error() == q.Error() }) {
					all = append(all, p)
				}
			}
		}
		return all
	}
	return nil
}

// Lookup finds a catalogue entry.
func Lookup(c Code) (Entry, bool) {
	e, ok := entries()[c]
	return e, ok
}

// entries is the catalogue by code, made once: problems are made by the
// thousands where processes are looked at.
var entries = sync.OnceValue(func() map[Code]Entry {
	all := map[Code]Entry{}
	for _, e := range Catalogue() {
		all[e.Code] = e
	}
	return all
})
