/** A health check's one name: `object_store`, `Object-Store` and `object-store` are the same check. */
export function canonicalName(name: string): string {
  return name.toLowerCase().replaceAll('_', '-')
}
