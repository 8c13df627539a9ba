// SPDX-License-Identifier: Apache-2.0

package command

import (
	"regexp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Info names a build of a program.
type Info struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// Version tells which program this is.
func (a *App) Version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := Build()
			return a.Show("version", v, func() string {
				s := a.Name + " " + v.Version
				if v.Revision != "" {
					s += " (" + v.Revision[:min(12, len(v.Revision))]
					if v.Modified {
						s += ", modified"
					}
					s += ")"
				}
				return s + " " + v.Go
			})
		},
	}
}

// Build is what the linker knows of this program.
func Build() Info {
	v := Info{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// Maker is this program and its release, for manifests. Between releases it is
// devel: a revision would make live patches differ that are the same.
func Maker() string {
	v := Build().Version
	// What Go makes of a commit without a tag, or of edits.
	if regexp.MustCompile(`\d{14}-[0-9a-f]{12}|\+dirty`).MatchString(v) {
		v = "devel"
	}
	return "tsugi " + v
}
