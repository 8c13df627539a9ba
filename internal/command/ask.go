// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// ErrNobodyToAsk is what Ask returns when standard input is no terminal, and
// Answer when it has no further line.
var ErrNobodyToAsk = errors.New("there is no terminal to ask on")

// maxAnswer bounds a line that is no terminal's.
const maxAnswer = 4096

// Ask asks a person on the terminal, without showing the answer.
func (a *App) Ask(ctx context.Context, prompt string) (string, error) {
	in, ok := a.Streams.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", ErrNobodyToAsk
	}
	state, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	// An interrupt must not leave the terminal mute.
	defer context.AfterFunc(ctx, func() { _ = term.Restore(int(in.Fd()), state) })()
	_, _ = io.WriteString(a.Streams.Stderr, prompt)
	answer, err := term.ReadPassword(int(in.Fd()))
	_, _ = io.WriteString(a.Streams.Stderr, "\n")
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	return string(answer), nil
}

// Answer is Ask for what a program may answer too: where there is no terminal,
// each answer is a line of standard input, and nothing behind it is read.
func (a *App) Answer(ctx context.Context, prompt string) (string, error) {
	answer, err := a.Ask(ctx, prompt)
	if !errors.Is(err, ErrNobodyToAsk) || a.Streams.Stdin == nil {
		return answer, err
	}
	var line []byte
	for b := []byte{0}; len(line) <= maxAnswer; {
		n, err := a.Streams.Stdin.Read(b)
		switch {
		case n == 1 && b[0] == '\n':
			return strings.TrimSuffix(string(line), "\r"), nil
		case n == 1:
			line = append(line, b[0])
		case errors.Is(err, io.EOF) && len(line) > 0:
			return string(line), nil
		case errors.Is(err, io.EOF):
			return "", ErrNobodyToAsk
		case err != nil:
			return "", fmt.Errorf("standard input: %w", err)
		}
	}
	return "", fmt.Errorf("standard input: a line is longer than %d bytes", maxAnswer)
}
