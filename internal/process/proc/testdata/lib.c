// SPDX-License-Identifier: Apache-2.0

int fixture(void)
{
	return VERSION;
}
