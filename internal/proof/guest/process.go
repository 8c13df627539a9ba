// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

// stage is the programs of a package's proof, and the keeper.
type stage struct {
	start    Start
	subjects []*subject
	keep     *vmguest.Child
}

// Start says which programs run while a live patch comes and goes.
type Start struct {
	Path string `json:"path"` // of the live patch, whose files they should map
	// Libraries are loaded into programs that do nothing else.
	Libraries []string `json:"libraries,omitempty"`
	Serve     []string `json:"serve,omitempty"` // command lines
	Talk      string   `json:"talk,omitempty"`  // one that answers lines
	Ready     []string `json:"ready,omitempty"` // commands that have to pass first
	LimitMS   int64    `json:"limit_ms"`
}

// Subject is how a program of the stage is.
type Subject struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Ended string `json:"ended,omitempty"` // how it ended
}

// Preamble gives scripts the function ask: it says a line to the program of
// "talk" and writes the line that it answers. It stands on a script's first line.
const Preamble = `ask() { echo "$*" >` + talkIn + `; IFS= read -r answer <` + talkOut + ` && echo "$answer"; }; `

const (
	talkIn  = "/run/tsugi/talk.in"
	talkOut = "/run/tsugi/talk.out"
	// idle is a stock program that does nothing for as long as one likes.
	idle = "/usr/bin/sleep"
)

func (g *stage) verbs() map[string]vmguest.Verb {
	return map[string]vmguest.Verb{
		"process-start": func(ctx context.Context, env *vmguest.Env, args json.RawMessage) (any, error) {
			if err := json.Unmarshal(args, &g.start); err != nil {
				return nil, err
			}
			err := g.begin(ctx, env)
			return g.alive(), err
		},
		"process-restart": func(ctx context.Context, env *vmguest.Env, _ json.RawMessage) (any, error) {
			return g.restart(ctx, env)
		},
		"process-alive": func(context.Context, *vmguest.Env, json.RawMessage) (any, error) { return g.alive(), nil },
		"process-keep": func(_ context.Context, env *vmguest.Env, _ json.RawMessage) (any, error) {
			cmd := engine("keep", Patch{})
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			var err error
			g.keep, err = env.Background(cmd)
			return nil, err
		},
		"process-keep-end": func(context.Context, *vmguest.Env, json.RawMessage) (any, error) {
			if how := g.keep.Ended(); how != "" {
				return nil, fmt.Errorf("the keeper ended by itself: %s", how)
			}
			g.keep.Stop(10 * time.Second)
			return nil, nil
		},
		"process-apply":  ask[Processes]("apply"),
		"process-revert": ask[Processes]("revert"),
		"process-state":  ask[Processes]("state"),
		"process-settle": settle,
		"process-cycle":  cycles,
	}
}

// engine is this program again, as the one that works on processes.
func engine(verb string, p Patch) *exec.Cmd {
	in, _ := json.Marshal(p)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{engineName, verb}
	cmd.Stdin = bytes.NewReader(in)
	return cmd
}

// have has the engine do something and reads its result.
func have[R any](ctx context.Context, env *vmguest.Env, verb string, p Patch) (*R, error) {
	var out, said bytes.Buffer
	cmd := engine(verb, p)
	cmd.Stdout, cmd.Stderr = &out, &said
	c, err := env.Background(cmd)
	if err != nil {
		return nil, err
	}
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	var r engineResult
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("%s: %s: %s", verb, c.Ended(), strings.TrimSpace(said.String()))
	}
	result := new(R)
	if err := json.Unmarshal(r.Result, result); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return result, fmt.Errorf("%s", r.Error)
	}
	return result, nil
}

// ask makes a step of what the engine does.
func ask[R any](verb string) vmguest.Verb {
	return func(ctx context.Context, env *vmguest.Env, args json.RawMessage) (any, error) {
		var p Patch
		if err := json.Unmarshal(args, &p); err != nil {
			return nil, err
		}
		return have[R](ctx, env, verb, p)
	}
}

// begin starts the programs and waits until they are ready.
func (g *stage) begin(ctx context.Context, env *vmguest.Env) error {
	if err := os.MkdirAll("/run/tsugi", 0o755); err != nil {
		return err
	}
	// Servers want the loopback device; a kernel without one is no reason to stop.
	_, _ = vmguest.RunScript(ctx, env, vmguest.Script{Text: "ifconfig lo up"})
	for _, l := range g.start.Libraries {
		cmd := exec.Command(idle, "infinity")
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+l)
		if err := g.add(env, idle+" with "+l, cmd, false); err != nil {
			return err
		}
	}
	for _, line := range g.start.Serve {
		if err := g.add(env, line, shell(line), true); err != nil {
			return err
		}
	}
	if g.start.Talk != "" {
		if err := g.talk(env, g.start.Talk); err != nil {
			return err
		}
	}
	return g.ready(ctx, env)
}

// ready waits until all commands pass that say so, and a process of each program
// maps what it should.
func (g *stage) ready(ctx context.Context, env *vmguest.Env) error {
	limit := time.Duration(g.start.LimitMS) * time.Millisecond
	for end := time.Now().Add(limit); ; time.Sleep(again) {
		err := g.lacks(ctx, env)
		switch gone := g.failed(); {
		case err == nil || ctx.Err() != nil:
			return err
		case gone != nil:
			return gone
		case time.Now().After(end):
			return fmt.Errorf("after %s: %w%s", limit, err, g.lastWords())
		}
	}
}

// lacks tells what is not ready yet.
func (g *stage) lacks(ctx context.Context, env *vmguest.Env) error {
	for _, line := range g.start.Ready {
		r, err := vmguest.RunScript(ctx, env, vmguest.Script{Text: Preamble + line})
		if err != nil {
			return err
		}
		if r.Exit != 0 {
			return fmt.Errorf("%s: exit status %d: %s", Short(line), r.Exit, strings.TrimSpace(r.Output))
		}
	}
	there, err := have[Processes](ctx, env, "state", Patch{Path: g.start.Path})
	if err != nil {
		return err
	}
	mapping := map[int]bool{}
	for _, p := range there.Processes {
		mapping[p.PID] = true
		if sid, err := unix.Getsid(p.PID); err == nil {
			mapping[sid] = true
		}
	}
	for _, s := range g.subjects {
		if s.child.Ended() == "" && !mapping[s.child.PID()] {
			return fmt.Errorf("%s maps none of the files of the live patch", Short(s.name))
		}
	}
	return nil
}

// alive tells how the programs are.
func (g *stage) alive() []Subject {
	out := []Subject{}
	for _, s := range g.subjects {
		out = append(out, Subject{s.name, s.child.PID(), s.child.Ended()})
	}
	return out
}

// Restarted is how the programs were before they were started anew, and are now.
type Restarted struct {
	Was []Subject `json:"was"`
	Now []Subject `json:"now"`
}

func (g *stage) restart(ctx context.Context, env *vmguest.Env) (*Restarted, error) {
	r := &Restarted{Was: g.alive()}
	for _, s := range g.subjects {
		s.child.Stop(5 * time.Second)
	}
	g.subjects = nil
	err := g.begin(ctx, env)
	r.Now = g.alive()
	return r, err
}

// settle waits until every process has what the keeper should give it, for the
// time that a transition may take, and says what is there.
func settle(ctx context.Context, env *vmguest.Env, args json.RawMessage) (any, error) {
	var p Patch
	if err := json.Unmarshal(args, &p); err != nil {
		return nil, err
	}
	start := time.Now()
	for {
		s, err := have[Processes](ctx, env, "state", p)
		if err != nil {
			return s, err
		}
		s.Took = time.Since(start).Nanoseconds()
		if s.whole() || time.Since(start) > p.limit() {
			return s, nil
		}
		time.Sleep(again)
	}
}

// whole tells whether a live patch is in effect wherever it could be.
func (s *Processes) whole() bool {
	for _, p := range s.Processes {
		for _, f := range p.Files {
			if f.Digest == "" {
				return false
			}
		}
	}
	return true
}

// cycles puts a live patch in and takes it out again and again.
func cycles(ctx context.Context, env *vmguest.Env, args json.RawMessage) (any, error) {
	var p Patch
	if err := json.Unmarshal(args, &p); err != nil {
		return nil, err
	}
	c := &Cycles{}
	load := p.Load
	if load != "" {
		load = Preamble + load
	}
	defer c.underLoad(ctx, env, load)()
	p.Load = ""
	for i := range p.Count {
		for _, step := range []struct {
			verb string
			list *[]Transition
		}{{"apply", &c.Loads}, {"revert", &c.Reverts}} {
			s, err := have[Processes](ctx, env, step.verb, p)
			if err == nil {
				err = s.unfinished()
			}
			if err != nil {
				return c, fmt.Errorf("cycle %d: %w", i+1, err)
			}
			*step.list = append(*step.list, Transition{Transition: s.Took, Complete: true})
		}
		c.Count++
	}
	return c, nil
}

// Standings of processes that are as they should be.
const (
	Protected = string(keeper.Protected)
	Original  = string(keeper.Original)
)
