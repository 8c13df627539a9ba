// SPDX-License-Identifier: Apache-2.0
import { Button, Group } from '@mantine/core';
import { IconDownload, IconX } from '@tabler/icons-react';
import { useEffect, useRef, useState } from 'react';
import { useT } from '../i18n';
import { Failure } from './states';

interface DownloadProps {
  name: string;
  going: (n: number) => string; // said while so many were read
  get: (signal: AbortSignal, progress: (n: number) => void) => Promise<void>;
}

// Download writes all of a list that fits into a file, page by page.
export function Download({ name, going, get }: DownloadProps) {
  const t = useT();
  const [done, setDone] = useState<number>();
  const [error, setError] = useState<unknown>();
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);
  const start = async () => {
    stop.current = new AbortController();
    setError(undefined);
    setDone(0);
    try {
      await get(stop.current.signal, setDone);
    } catch (e) {
      if (!stop.current.signal.aborted) setError(e);
    } finally {
      setDone(undefined);
    }
  };
  return (
    <>
      {error !== undefined && <Failure error={error} />}
      {done === undefined ? (
        <Button variant="default" leftSection={<IconDownload size={16} aria-hidden />} onClick={() => void start()}>
          {name}
        </Button>
      ) : (
        <Group gap="xs" role="status">
          {going(done)}
          <Button variant="default" leftSection={<IconX size={16} aria-hidden />} onClick={() => stop.current?.abort()}>
            {t.cancel}
          </Button>
        </Group>
      )}
    </>
  );
}
