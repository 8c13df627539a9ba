// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"strings"

	"github.com/tsugi-project/tsugi/internal/layout"
)

// What is known of the kernel's own types: which tables it reads each time by
// the pointer that it was given once, and which it reads or copies only when
// something is set up. A table of the second kind can be edited, but the edit
// changes nothing for what is there already.

// byPointer are how the names of types end that the kernel keeps by pointer
// for as long as what they describe is there.
var byPointer = []string{"_ops", "_operations", "_funcs", "_fops", "_driver", "_protocol", "_algorithm"}

// byPointerToo are such types with other names.
var byPointerToo = map[string]bool{
	"bus_type": true, "class": true, "device_type": true, "file_system_type": true, "ctl_table": true, "notifier_block": true,
	"kobj_type": true, "tracer": true, "nf_conntrack_helper": true, "xt_target": true, "xt_match": true,
	"nft_expr_type": true, "scsi_host_template": true, "packet_type": true, "bin_attribute": true, "device_attribute": true,
	"kobj_attribute": true, "sysrq_key_op": true, "rtc_class_ops": true, "crypto_type": true, "sctp_af": true, "sctp_pf": true,
}

// atSetup are types that end like the others and yet are copied, or read only
// when what they describe is made.
var atSetup = map[string]string{
	"nf_hook_ops":               "the packet path has a copy of it",
	"snd_soc_dai_driver":        "it is read when a sound card is made",
	"ib_device_ops":             "it is copied into each device",
	"attribute_group":           "sysfs reads it when it makes the files",
	"x86_init_ops":              "it is read at boot",
	"v4l2_ioctl_ops":            "what a device can do was settled when it was registered",
	"platform_suspend_ops":      "it is read when it is set",
	"clk_ops":                   "what a clock can do was settled when it was registered",
	"perf_guest_info_callbacks": "it is copied",
	"proto":                     "sockets with TLS or in a sockmap have copies of it",
	"proto_ops":                 "sockets with TLS or in a sockmap have copies of it",
	"trusted_key_ops":           "static calls were made of it when it was set",
}

// copied are types that end like the others, of tables that other objects than
// their own copy into what they set up: copiedBy and takenApart do not see it.
var copied = map[string]bool{
	"fib_rules_ops": true, "fib_notifier_ops": true, "mr_table_ops": true, "inet_connection_sock_af_ops": true, "request_sock_ops": true,
	"tcp_request_sock_ops": true, "team_mode_ops": true, "thermal_zone_device_ops": true, "ata_port_operations": true, "rproc_ops": true,
	"qmi_ops": true, "qcom_smem_state_ops": true, "rtrs_srv_ops": true, "ssh_ptl_ops": true, "ssh_rtl_ops": true, "kexec_file_ops": true,
	"irq_sim_ops": true, "msi_domain_ops": true, "snd_sof_dsp_ops": true, "snd_soc_dai_ops": true, "ieee80211_ops": true, "mwifiex_if_ops": true,
	"e1000_mac_operations": true, "e1000_phy_operations": true, "e1000_nvm_operations": true, "e1000_mbx_operations": true,
	"igc_mac_operations": true, "igc_phy_operations": true, "igc_nvm_operations": true, "fm10k_mac_ops": true, "fm10k_iov_ops": true,
	"ixgbe_mac_operations": true, "ixgbe_phy_operations": true, "ixgbe_eeprom_operations": true, "ixgbe_link_operations": true,
	"ixgbe_mbx_operations": true, "aq_fw_ops": true, "octeon_droq_ops": true, "abx500_ops": true, "mt76_bus_ops": true, "mt76_mcu_ops": true,
}

// atSetupFields are fields of tables kept by pointer that are read only when
// something is made.
var atSetupFields = map[string]string{
	"pernet_operations.init":   "network namespaces that exist have been set up without it",
	"pernet_operations.id":     "network namespaces that exist have been set up without it",
	"pernet_operations.size":   "network namespaces that exist have been set up without it",
	"Qdisc_ops.enqueue":        "queues that exist have a copy of it",
	"Qdisc_ops.dequeue":        "queues that exist have a copy of it",
	"device_type.groups":       "sysfs reads it when it makes the files",
	"bus_type.name":            "it names files that exist",
	"bus_type.bus_groups":      "sysfs reads it when it makes the files",
	"bus_type.dev_groups":      "sysfs reads it when it makes the files",
	"bus_type.drv_groups":      "sysfs reads it when it makes the files",
	"class.name":               "it names files that exist",
	"class.class_groups":       "sysfs reads it when it makes the files",
	"class.dev_groups":         "sysfs reads it when it makes the files",
	"device_driver.name":       "it names files that exist",
	"device_driver.groups":     "sysfs reads it when it makes the files",
	"device_driver.dev_groups": "sysfs reads it when it makes the files",
	"kobj_type.default_groups": "sysfs reads it when it makes the files",
	"ctl_table.procname":       "it names files that exist",
	"ctl_table.child":          "it is read when the files are made",
	"bin_attribute.mmap":       "files that are open have been made without it",
}

// wholeRecords are types whose readers take a record in one go, so that
// numbers in it may change: no reader comes back to it.
var wholeRecords = map[string]bool{"nla_policy": true}

// readAgain says why an edit of a field would not do what the source says, or
// "" when the kernel reads it each time.
func readAgain(f layout.Field) string {
	if why, ok := atSetup[f.Of]; ok && why != "" {
		return why
	}
	if copied[f.Of] {
		return "objects that exist have copies of it"
	}
	if why := atSetupFields[f.Of+"."+lastName(f.Name)]; why != "" {
		return why
	}
	if wholeRecords[f.Of] || byPointerToo[f.Of] {
		return ""
	}
	for _, s := range byPointer {
		if strings.HasSuffix(f.Of, s) {
			return ""
		}
	}
	return "struct " + f.Of + " is not known as one that the kernel reads again each time"
}

// switches are flags of such tables that may change under readers: each of them
// has been looked at, reads it once for what it does, and remembers nothing.
var switches = map[string]bool{"amdgpu_ring_funcs.no_user_fence": true}

func lastName(path string) string {
	if _, last, ok := cutLast(path, "."); ok {
		return last
	}
	return path
}

// copiers are functions that make copies of a table: with one of them about,
// nobody knows where the copies are.
var copiers = map[string]bool{
	"kmemdup": true, "kmemdup_nul": true, "kmemdup_noprof": true, "devm_kmemdup": true, "kvmemdup": true, "memcpy": true,
	"__memcpy": true, "memdup_user": true, "devm_kmemdup_array": true,
}

// matchers are functions that look a table through and keep no pointer to it.
var matchers = map[string]bool{
	"dmi_first_match": true, "dmi_check_system": true, "pci_match_id": true, "usb_match_id": true, "x86_match_cpu": true,
	"acpi_match_device_ids": true, "of_match_node": true, "i2c_match_id": true, "hid_match_id": true, "spi_get_device_match_data": true,
	"match_string": true, "__sysfs_match_string": true, "soc_device_match": true, "psmouse_matches_pnp_id": true,
	"acpi_match_platform_list": true, "of_match_device": true, "acpi_match_device": true, "x86_cpu_has_min_microcode_rev": true,
}
