/* SPDX-License-Identifier: GPL-2.0 */
void synchronize_rcu_tasks(void);
