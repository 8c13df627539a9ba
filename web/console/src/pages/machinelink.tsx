// SPDX-License-Identifier: Apache-2.0
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { machine } from '../api/queries';

// MachineLink names a machine that the API names by its id. The name is asked
// for once in an hour; until it is there, and when the machine is gone, it is the id.
export function MachineLink({ id }: { id: string }) {
  const q = useQuery({ ...machine(id), queryKey: ['machine name', id], refetchInterval: false, staleTime: 3_600_000, retry: false, select: (m) => m.hostname });
  return (
    <Link to="/machines/$id" params={{ id }} className="link">
      {q.data || id}
    </Link>
  );
}
