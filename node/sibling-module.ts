/** The entries of threads and processes: beside the module that starts them, in the sources and in the bundle alike. */

/**
 * @param name of the module, without its ending
 * @param importer the `import.meta.url` of a module in the same folder; in the bundle all are in one
 */
export function siblingModule(name: string, importer: string): URL {
  return new URL(`./${name}${importer.endsWith('.ts') ? '.ts' : '.js'}`, importer);
}
