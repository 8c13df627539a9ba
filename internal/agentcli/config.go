// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newConfigCommand(a *app) *cobra.Command {
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the configuration that holds, defaults included",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return a.configShow() },
	}
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration before the agent reads it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := a.config
			if len(args) == 1 {
				path = args[0]
				if _, err := os.Stat(path); err != nil {
					return command.FileProblem("TS1902", path, err)
				}
			}
			if _, err := agent.LoadConfig(path); err != nil {
				return err
			}
			return a.Show("config-check", map[string]string{"file": path}, func() string { return ui.Good("✓") + " " + path + "\n" })
		},
	}
	set := &cobra.Command{
		Use:   "set KEY VALUE",
		Short: "Set a key of the configuration file",
		Long: `set writes a key into the configuration file and leaves the rest of it as it is,
comments included. VALUE is YAML. The agent reads the file when it starts:
systemctl restart tsugi.`,
		Example: "  tsugi config set proxy http://proxy.example:3128\n  tsugi config set windows '[\"Mon-Fri 22:00-04:00\"]'\n  tsugi config set transition.limit 3m",
		Args:    cobra.ExactArgs(2),
		RunE:    func(_ *cobra.Command, args []string) error { return a.configSet(args[0], args[1]) },
	}
	unset := &cobra.Command{
		Use:   "unset KEY",
		Short: "Take a key out of the configuration file",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.configSet(args[0], "") },
	}
	return command.Parent("config", "Show, check and change the agent's configuration",
		"config looks after /etc/tsugi/agent.yaml. docs/agent.md lists its keys.", show, check, set, unset)
}

func (a *app) configShow() error {
	c, err := agent.LoadConfig(a.config)
	if err != nil {
		return err
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return a.Show("config", c, func() string { return string(b) })
}

func (a *app) configSet(key, value string) error {
	b, err := os.ReadFile(a.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return command.FileProblem("TS1902", a.config, err)
	}
	changed, err := agent.SetConfig(b, key, value)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.config), 0o755); err != nil {
		return code.New("TS1903", a.config, "").With(err)
	}
	if err := command.WriteFile(a.config, changed); err != nil {
		return err
	}
	return a.Show("config-set", map[string]string{"key": key, "value": value}, func() string {
		return ui.Good("✓") + " " + a.config + "\n  " + ui.Dim("○ the agent reads it when it starts: systemctl restart tsugi") + "\n"
	})
}
